"""Every kind of oracle has settings of its own: picked by `kind`, checked by it, and told by the key's whole name."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from fairplay.errors import SettingsError
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.rule import load_function
from fairplay.oracles.settings import KINDS, OracleSettings
from fairplay.oracles.table import oracle_identity
from fairplay.storage.faults import placed
from fairplay.storage.settings_file import apply_overrides, build_settings, settings_document


@dataclass(frozen=True)
class Held:
    oracle: OracleSettings
    seed: int = 0


def read(*overrides, **document):
    return build_settings(Held, apply_overrides({"oracle": document} if document else {}, overrides), "--set").oracle


def test_the_kind_picks_the_settings_class():
    assert read("oracle.kind=rule", "oracle.function=a:b") == RuleSettings(function="a:b")
    assert read(kind="pair_ranker", model="m", orders="one") == PairRankerSettings(model="m", orders="one")
    assert [KINDS[kind].kind for kind in KINDS] == list(KINDS)


def test_settings_are_written_with_their_kind_first_and_read_back_the_same():
    settings = PairModelSettings(model="m", temperature=2.0, max_length=64)
    document = settings_document(settings)
    assert next(iter(document.items())) == ("kind", "pair_model")
    assert read(**document) == settings


def test_settings_can_not_be_changed():
    with pytest.raises(FrozenInstanceError):
        RuleSettings(function="a:b").temperature = 2.0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model": "x"}, r"--set: oracle\.kind: is needed, and not there\nhint: `oracle\.kind` is one of\n  ensemble"),
        (
            {"kind": "pairmodel", "model": "x"},
            r"oracle\.kind: unknown kind `pairmodel`\nhint: did you mean `pair_model`",
        ),
        ({"kind": "pair_model"}, r"--set: oracle\.model: `pair_model` needs one\nhint: a learned model"),
        ({"kind": "rule"}, r"oracle\.function: `rule` needs one"),
        ({"kind": "rule", "function": "a:b", "model": "x"}, r"oracle\.model: unknown setting"),
        ({"kind": "rule", "functoin": "a:b"}, "did you mean `oracle.function`"),
        ({"kind": "rule", "function": "a:b", "temperature": 0.0}, r"oracle\.temperature: 0\.0"),
        ({"kind": "rule", "function": "a:b", "temperature": float("nan")}, r"oracle\.temperature"),
        ({"kind": "pair_model", "model": "x", "batch_size": 0}, r"oracle\.batch_size"),
        ({"kind": "pair_model", "model": "x", "batch_size": True}, r"oracle\.batch_size: must be a number"),
        (
            {"kind": "pair_model", "model": "x", "batch_size": "many"},
            r"oracle\.batch_size: must be a whole number, is `many`",
        ),
        ({"kind": "pair_model", "model": "x", "max_length": 4}, r"oracle\.max_length"),
        ({"kind": "reward_model", "model": "x", "max_length": 4}, r"oracle\.max_length"),
        ({"kind": "pair_model", "model": "x", "dtype": "int8"}, r"oracle\.dtype"),
        ({"kind": "pair_model", "model": "x", "orders": "half"}, "--set: oracle: unknown choice of orders `half`"),
        ({"kind": "reward_model", "model": "x", "orders": "one"}, r"oracle\.orders: unknown setting"),
        ({"kind": "pair_ranker", "model": "x", "max_length": 2048}, "did you mean `oracle.prompt_max_length`"),
        ({"kind": "pair_ranker", "model": "x", "prompt_max_length": 3}, r"oracle\.prompt_max_length: 3 is less"),
        ({"kind": "pair_ranker", "model": "x", "response_max_length": -1}, r"oracle\.response_max_length: -1 is less"),
        ({"kind": "pair_ranker", "model": "x", "truncation_side": "end"}, r"oracle\.truncation_side: unknown side"),
        ({"kind": "pair_model", "model": "x", "truncation_side": "left"}, r"oracle\.truncation_side: unknown setting"),
    ],
)
def test_settings_that_can_not_be_met_are_refused_by_the_keys_whole_name(document, message):
    with pytest.raises(SettingsError, match=message):
        read(**document)


JUDGE = {"kind": "llm_judge", "server": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}}
FOUND, NOT_FOUND = {"kind": "rule", "function": "os.path:join"}, "oracle_nowhere.module"
MEMBERS = {"kind": "ensemble", "members": [FOUND, {"kind": "rule", "function": f"{NOT_FOUND}:f"}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (JUDGE | {"template": "pairr"}, "evaluation.judge.template: unknown template `pairr`"),
        ({"kind": "rule", "function": f"{NOT_FOUND}:f"}, f"evaluation.judge.function: can't import `{NOT_FOUND}`"),
        (MEMBERS, f"evaluation.judge.members.1.function: can't import `{NOT_FOUND}`"),
    ],
)
def test_what_is_not_there_is_told_by_the_whole_name_of_its_key(document, message):
    with pytest.raises(SettingsError) as refused:
        oracle_identity(read(**document), setting="evaluation.judge")
    assert refused.value.message.startswith(message)


def test_a_message_without_a_settings_name_comes_after_the_place():
    assert placed("oracle", "function: not there", RuleSettings) == "oracle.function: not there"
    assert (
        placed("oracle", "members.1.function: not there", KINDS["ensemble"]) == "oracle.members.1.function: not there"
    )
    assert placed("oracle", "model: not there", RuleSettings) == "oracle: model: not there"
    assert placed("oracle", "nothing is there", RuleSettings) == "oracle: nothing is there"


@pytest.mark.parametrize("function", ["fairplay.nope.mod:f", "fairplay.nope:f", f"{NOT_FOUND}:f"])
def test_a_module_that_is_missing_at_any_level_is_told_as_not_there(function):
    with pytest.raises(SettingsError, match="can't import") as refused:
        load_function(function)
    assert f"put the folder that holds {function.removesuffix(':f').replace('.', '/')}.py on it" in refused.value.hint


def test_a_module_that_asks_for_another_one_that_is_missing_was_found(tmp_path, monkeypatch):
    (tmp_path / "found_rule.py").write_text("import found_rule_elsewhere\n")
    (tmp_path / "setting_rule.py").write_text(
        "from fairplay.errors import SettingsError\nraise SettingsError('no such table')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="can't import") as refused:
        load_function("found_rule:f")
    assert "was found, and failed" in refused.value.hint
    with pytest.raises(SettingsError, match="function: `setting_rule`: no such table"):
        load_function("setting_rule:f")


def test_all_faults_are_told_at_once():
    with pytest.raises(SettingsError) as refused:
        read("seed=many", "oracle.kind=rule", "oracle.functoin=a:b", "oracle.function=a:b", "oracle.temperature=-1")
    for part in ("seed: must be a whole number", "oracle.functoin: unknown", "oracle.temperature: -1", "did you mean"):
        assert part in str(refused.value)


def test_an_oracle_that_is_no_mapping_is_refused():
    with pytest.raises(SettingsError, match="oracle"):
        build_settings(Held, {"oracle": "rule"}, "r.yaml")


def test_what_identifies_an_oracle_is_its_content_and_not_its_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    identities = []
    for name in ("one", "two"):
        document, sources = oracle_identity(PairModelSettings(model=str(tmp_path / name)))
        assert "model" not in document
        identities.append((document, {key: source.digest() for key, source in sources.items()}))
    assert identities[0] == identities[1]
    (tmp_path / "two" / "config.json").write_text("{ }")
    assert oracle_identity(PairModelSettings(model=str(tmp_path / "two")))[1]["model"].digest() != identities[0][1]


def test_settings_load_no_torch():
    code = "import sys, fairplay.oracles.settings; print('torch' in sys.modules, 'transformers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False False\n"


def test_the_page_has_a_section_and_a_row_for_every_kind():
    page = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
    for kind in KINDS:
        assert f"\n### `{kind}`\n" in page
        assert f"| [`{kind}`](#{kind}) |" in page
        assert f"oracle.kind={kind}" in page
