"""AlpacaEval 2's order and parser against all stored replies of its judge."""

import math

import pyarrow.parquet as pq
import pytest

from fairplay.evaluation.protocols.official_reply import official_preference, official_win_prob, read_official
from fairplay.evaluation.protocols.orders import official_switch
from fairplay.oracles.judge_verdicts import NoVerdict
from fairplay.servers.outcomes import Choice, Position


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "alpaca_eval2"


def test_the_order_of_all_805_instructions_is_the_official_one(folder):
    table = pq.read_table(folder / "outputs_sample.parquet", columns=["instruction", "is_switched"]).to_pydict()
    drawn = [official_switch(text) for text in table["instruction"]]
    assert drawn == table["is_switched"]
    assert sum(drawn) == 406


def test_all_stored_replies_give_the_stored_preferences(folder):
    columns = ["preference", "is_switched", "logprob_m", "logprob_M"]
    rows = pq.read_table(folder / "annotations.parquet", columns=columns).to_pydict()
    worst, count = 0.0, 0
    for preference, switched, m, big_m in zip(*(rows[name] for name in columns), strict=True):
        top = [(name, lp) for name, lp in (("m", m), ("M", big_m)) if lp is not None and lp > -math.inf]
        if not top:  # nothing stored: NaN is not above minus infinity either
            continue
        count += 1
        worst = max(worst, abs(official_preference(official_win_prob(top), model_first=switched) - preference))
    assert count == 41732
    assert worst < 1e-9


def test_only_the_exact_names_count():
    def read(*top):
        return read_official(Choice("", "length", (Position("", 0.0, top),)))

    assert isinstance(read((" m", -0.1), ("**M", -3.0)), NoVerdict)
    assert read(("m", -0.5), (" m", -0.1)).win_prob == 1.0
    assert read(("M", -0.5), ("x", -0.1)).win_prob == 0.0
    assert isinstance(read_official(Choice("m", "length")), NoVerdict)


def test_log_probs_far_apart_do_not_overflow():
    assert official_win_prob([("m", 0.0), ("M", -9999.0)]) == 1.0
    assert official_win_prob([("m", -9999.0), ("M", 0.0)]) == 0.0
