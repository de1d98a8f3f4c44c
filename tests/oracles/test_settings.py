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
from fairplay.oracles.settings import KINDS, OracleSettings
from fairplay.oracles.table import oracle_identity
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
        ({"kind": "pair_model", "model": "x", "orders": "half"}, "unknown choice of orders `half`"),
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
