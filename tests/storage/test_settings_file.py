import inspect
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from fairplay.errors import SettingsError
from fairplay.storage.faults import attribute_text
from fairplay.storage.settings_file import (
    apply_overrides,
    build_settings,
    dump_yaml,
    parse_yaml,
    read_yaml,
    settings_difference,
    settings_document,
    without,
)


@dataclass(frozen=True)
class Inner:
    learning_rate: float = 1e-3
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    seed: int = 0
    training: Inner = field(default_factory=Inner)
    objective: dict[str, str | float] = field(default_factory=dict)


def test_yaml_floats_without_a_dot_are_floats():
    settings = build_settings(Outer, parse_yaml("training: {learning_rate: 5e-7, names: [x, y]}", "r.yaml"), "r.yaml")
    assert settings.training == Inner(5e-7, "a", ("x", "y"))


def test_all_faults_are_named_at_once_with_the_nearest_name():
    text = "sed: 1\ntraining: {learning_rat: 1, kind: c}\nseed: many"
    with pytest.raises(SettingsError) as fault:
        build_settings(Outer, parse_yaml(text, "r.yaml"), "r.yaml")
    message = str(fault.value)
    assert "r.yaml: sed: unknown setting" in message
    assert "r.yaml: training.learning_rat: unknown setting" in message
    assert "did you mean `training.learning_rate`?" in message
    assert "training.kind" in message
    assert "seed" in message
    assert fault.value.exit_code == 2


def test_a_key_written_twice_is_refused_with_its_line():
    with pytest.raises(SettingsError, match="line 2, column 1: key `seed` twice"):
        parse_yaml("seed: 1\nseed: 2", "r.yaml")


@pytest.mark.parametrize("text", ["? [a]\n: 1", "? {a: b}\n: 1"])
def test_a_key_that_is_no_text_is_refused_with_its_place(text):
    with pytest.raises(SettingsError, match="line 1, column 3: a key must be plain text"):
        parse_yaml(text, "r.yaml")


def test_merge_keys_fill_in_what_is_not_written():
    text = "z: &z {x: 0, z: 0}\nbase: &base {<<: *z, x: 1, y: 1}\nown: {<<: *base, y: 2}"
    assert parse_yaml(text, "r.yaml")["own"] == {"x": 1, "y": 2, "z": 0}
    nested = "a: &a {x: 0}\nown:\n  <<: &b {<<: *a, x: 1}\n  y: 2\n  inner: *b"
    assert parse_yaml(nested, "r.yaml")["own"] == {"x": 1, "y": 2, "inner": {"x": 1}}


def test_true_is_not_a_number():
    with pytest.raises(SettingsError) as fault:
        build_settings(Outer, parse_yaml("seed: true\ntraining: {learning_rate: no}", "r.yaml"), "r.yaml")
    assert "r.yaml: seed: must be a number, is true" in str(fault.value)
    assert "r.yaml: training.learning_rate: must be a number, is false" in str(fault.value)


@dataclass(frozen=True)
class Told:
    """Settings that say what they are.

    Attributes:
        first, second: One of two, in words
            that go on in a second line.
        third: Another.
    """

    second: int
    third: int


class Flat:
    """As CPython 3.13 keeps the docstring of `Told`."""


Flat.__doc__ = inspect.cleandoc(Told.__doc__)


@pytest.mark.parametrize("kept", [Told, Flat])
def test_a_docstring_says_what_a_setting_means_with_its_indentation_or_without(kept):
    assert attribute_text(kept, "second") == "One of two, in words that go on in a second line."
    assert attribute_text(kept, "third") == "Another."
    assert attribute_text(kept, "fourth") == attribute_text(Outer, "seed") == ""


def test_one_text_where_a_list_of_texts_belongs_is_a_list_of_one():
    assert build_settings(Outer, {"training": {"names": "x"}}, "r").training.names == ("x",)
    with pytest.raises(SettingsError, match="a list"):
        build_settings(Outer, {"training": {"names": 3}}, "r")


READ = """
import pathlib, sys
from fairplay.storage.settings_file import read_yaml
print(ascii(read_yaml(pathlib.Path(sys.argv[1]))))
"""


def test_settings_are_read_as_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "r.yaml").write_bytes("name: Łódź".encode())
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", READ, str(tmp_path / "r.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(read_yaml(tmp_path / "r.yaml")) == ascii({"name": "Łódź"})


def test_keys_can_be_left_out_at_any_depth():
    assert without({"a": {"b": 1, "c": 2}, "d": 3}, {"a.b", "d", "c"}) == {"a": {"c": 2}}


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "a: [", "- 1", "just words"])
def test_what_is_no_plain_mapping_is_refused(text):
    with pytest.raises(SettingsError):
        parse_yaml(text, "r.yaml")


def test_overrides_reach_inner_keys_and_open_up_short_forms():
    document = apply_overrides({"objective": "dpo", "seed": 1}, ["objective.beta=0.5", "training.learning_rate=1e-4"])
    assert document == {"objective": {"name": "dpo", "beta": 0.5}, "seed": 1, "training": {"learning_rate": "1e-4"}}
    assert build_settings(Outer, document, "x").training.learning_rate == 1e-4


@pytest.mark.parametrize("override", ["seed", "=3", "seed.inner=3"])
def test_an_override_that_can_not_be_meant_is_refused(override):
    with pytest.raises(SettingsError, match="--set"):
        apply_overrides({"seed": 1}, [override])


def test_settings_survive_a_round_trip_and_differences_are_listed():
    settings = Outer(3, Inner(1e-4, "b", ("x",)), {"name": "dpo", "beta": 0.1})
    document = settings_document(settings)
    assert build_settings(Outer, parse_yaml(dump_yaml(document), "s"), "s") == settings
    assert settings_difference(document, settings_document(Outer(4, settings.training, {}))) == [
        "seed: 3 -> 4",
        "objective.name: 'dpo' -> None",
        "objective.beta: 0.1 -> None",
    ]


def test_data_taken_for_a_recipe_is_told_apart(tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(SettingsError, match=r"line 2.*\nhint: settings are a YAML file"):
        read_yaml(data)


@dataclass(frozen=True)
class Engine:
    """An engine.

    Attributes:
        address: Where it is,
            port included.
        retries: How often.
    """

    address: str
    retries: int = 3
    exact: bool = False
    names: tuple[str, ...] = ()
    mode: Literal["fast", "slow"] = "fast"
    rate: float = 1.0


@dataclass(frozen=True)
class Whole:
    engine: Engine


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("retries", "many", "must be a whole number, is `many`"),
        ("retries", 2.5, "must be a whole number, is `2.5`"),
        ("retries", None, "must be a whole number, is empty"),
        ("rate", "fast", "must be a number, is `fast`"),
        ("exact", "perhaps", "must be true or false, is `perhaps`"),
        ("address", ["x"], "must be text, is a list"),
        ("address", {"host": "x"}, "must be text, is keys and values (host)"),
        ("names", 3, "must be a list, is `3`"),
        ("mode", "medium", "must be 'fast' or 'slow', is `medium`"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_as_what_is_wanted_and_what_was_given(key, value, told):
    with pytest.raises(SettingsError) as fault:
        build_settings(Whole, {"engine": {"address": "here", key: value}}, "r")
    assert fault.value.message == f"r: engine.{key}: {told}"


def test_a_setting_that_is_missing_is_told_with_its_meaning():
    with pytest.raises(SettingsError) as fault:
        build_settings(Whole, {"engine": {}}, "r")
    assert fault.value.message == "r: engine.address: is needed, and not there"
    assert fault.value.hint == "engine.address: Where it is, port included."


@pytest.mark.parametrize("value", [3, "engine", ["engine"], None])
def test_a_value_where_keys_belong_is_told_once(value):
    with pytest.raises(SettingsError) as fault:
        build_settings(Whole, {"engine": value}, "r")
    assert fault.value.message.startswith("r: engine: must be keys and values, is ")
    assert "\n" not in fault.value.message
