"""Anchors: m responses of a prompt are compared with all others, and all that follows knows what was not compared."""

import json

import numpy as np
import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError, SettingsError
from fairplay.oracles.contract import split_judged
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.pair_queue import drawn_anchors
from fairplay.oracles.table import build_oracle
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.reliability import winner_logits
from fairplay.preferences.selection import select_examples
from fairplay.preferences.settings import GIVEN, KINDS, SelectionSettings
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import PreferenceGroup
from oracles.test_pair_queue import judge
from oracles.tiny import group_of, save_pair_model

SIX = group_of("a", "bb", "ccc", "dddd", "eeeee", "ffffff")


def anchored(num_anchors, group=SIX, **options):
    (judged,), counted = judge([group], num_anchors=num_anchors, **options)
    return judged, counted


@pytest.mark.parametrize("orders", ["both", "one"])
@pytest.mark.parametrize("num_anchors", [1, 2, 4, 5, 6, 9])
def test_the_cost_is_what_the_settings_say(num_anchors, orders):
    _, counted = anchored(num_anchors, orders=orders)
    settings = PairModelSettings(model="m", num_anchors=num_anchors, orders=orders)
    assert len(counted.rows) == settings.num_readings(6)


def test_two_anchors_of_six_cost_eighteen_readings_instead_of_thirty():
    assert PairModelSettings(model="m", num_anchors=2).num_readings(6) == 18
    assert PairModelSettings(model="m").num_readings(6) == 30


def test_exactly_the_pairs_with_an_anchor_are_compared_with_the_same_verdicts():
    judged, _ = anchored(2)
    whole, _ = anchored(0)
    assert len(judged.anchors) == 2
    for i in range(6):
        for j in range(6):
            is_asked = i == j or i in judged.anchors or j in judged.anchors
            assert judged.pair_logits[i][j] == (whole.pair_logits[i][j] if is_asked else None)


def test_anchors_that_make_all_pairs_are_none():
    assert anchored(5)[0] == anchored(0)[0]


def test_anchors_are_drawn_by_prompt_alone_and_evenly():
    counts = np.zeros(5)
    for number in range(600):
        group = group_of(*"abcde", question=f"what is {number}?")
        counts[list(drawn_anchors(group, 2))] += 1
        assert drawn_anchors(group, 2) == drawn_anchors(group_of(*"vwxyz", question=f"what is {number}?"), 2)
    assert np.abs(counts / 600 - 0.4).max() < 4 * (0.24 / 600) ** 0.5


def test_equal_texts_without_an_anchor_are_not_compared():
    group = group_of(*["same"] * 6)
    judged, counted = anchored(1, group)
    assert not counted.rows
    assert sum(value is None for row in judged.pair_logits for value in row) == 20


def test_a_win_rate_is_the_mean_over_the_pairs_that_were_compared():
    judged, _ = anchored(2)
    whole = win_matrix(group_logits(anchored(0)[0]))
    rates = win_rates(win_matrix(group_logits(judged)), opponents="leave-one-out")
    for i in range(6):
        met = [j for j in range(6) if j != i and (i in judged.anchors or j in judged.anchors)]
        assert rates[i] == pytest.approx(whole[i, met].mean())
    shrunk = win_rates(win_matrix(group_logits(judged)), opponents="with-self")
    other = next(i for i in range(6) if i not in judged.anchors)
    assert shrunk[other] == pytest.approx((2 * rates[other] + 0.5) / 3)


def test_rates_against_anchors_are_unbiased_estimates_of_the_rates_against_all():
    draws = np.random.default_rng(0)
    errors = []
    for number in range(800):
        quality = draws.normal(size=6)
        logits = quality[:, None] - quality[None, :]
        group = group_of(*"abcdef", question=f"what is {number}?")
        kept = np.zeros(6, dtype=bool)
        kept[list(drawn_anchors(group, 2))] = True
        seen = np.where(kept[:, None] | kept[None, :], logits, np.nan)
        np.fill_diagonal(seen, 0.0)
        full = win_rates(win_matrix(logits), opponents="leave-one-out")
        errors.append(win_rates(win_matrix(seen), opponents="leave-one-out") - full)
    assert np.abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(np.size(errors))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"nash-weighted", GIVEN}))
def test_selections_go_by_rates_or_by_pairs_that_were_compared(kind):
    judged, _ = anchored(2)
    selection = select_examples([judged], SelectionSettings(kind=kind), temperature=1.0, seed=0)
    (example,) = selection.examples
    assert np.isfinite(example.win_rates).all()
    if kind == "top-margin":
        texts = [response.text for response in SIX.responses]
        assert any(texts.index(response.text) in judged.anchors for response in example.responses)


def test_what_needs_every_pair_is_refused_by_name():
    judged, _ = anchored(2)
    with pytest.raises(DataError, match=r"prompt p: `nash-weighted` needs every pair; \d and \d were not compared"):
        select_examples([judged], SelectionSettings(kind="nash-weighted"), temperature=1.0, seed=0)
    with pytest.raises(SettingsError, match="`sppo-code` needs a verdict on every pair"):
        select_examples([judged], SelectionSettings(rule="sppo-code"), temperature=1.0, seed=0)


def test_the_audit_is_of_what_was_compared():
    groups = [group_of(*"abcdef", question=f"what is {number}?", prompt_id=str(number)) for number in range(40)]
    draws = np.random.default_rng(1)
    whole, part = [], []
    for group in groups:
        d = np.triu(draws.normal(size=(6, 6)), 1)
        logits = d - d.T
        anchors = drawn_anchors(group, 3)
        table = [[logits[i, j] if i == j or {i, j} & {*anchors} else None for j in range(6)] for i in range(6)]
        whole.append(PreferenceGroup(group, tuple(map(tuple, logits.tolist())), (False,) * 6))
        part.append(PreferenceGroup(group, tuple(map(tuple, table)), (False,) * 6, anchors=anchors))
    full, seen = audit_preferences(whole, temperature=1.0), audit_preferences(part, temperature=1.0)
    assert seen["not_compared_share"] == pytest.approx(3 / 15)
    assert "not_compared_share" not in full
    assert seen["intransitive_triple_rate_by_chance"] == pytest.approx(0.25)
    for name in ("intransitive_triple_rate", "mean_margin"):
        assert seen[name] == pytest.approx(full[name], abs=0.06)
    assert 0 < seen["cyclic_energy_share"] < 1
    assert (seen["order_flip_rate"], seen["duplicate_rate"]) == (0, 0)


def test_a_ranking_is_fully_transitive_over_the_pairs_that_were_compared():
    judged, _ = anchored(2)
    symmetric = PreferenceGroup(
        SIX,
        tuple(
            tuple(None if value is None else (i - j) * 0.5 for j, value in enumerate(row))
            for i, row in enumerate(judged.pair_logits)
        ),
        judged.truncated,
        anchors=judged.anchors,
    )
    assert audit_preferences([symmetric], temperature=1.0)["cyclic_energy_share"] == pytest.approx(0, abs=1e-20)


def test_labels_count_where_a_pair_was_compared():
    judged, _ = anchored(1)
    assert len(winner_logits([judged], [(1, 2, 3, 4, 5, 6)])) == 5


def test_a_pair_that_was_to_be_compared_and_was_not_is_lost_in_spite_of_anchors():
    judged, _ = anchored(2)
    anchor, other = judged.anchors[0], next(i for i in range(6) if i not in judged.anchors)
    rows = [list(row) for row in judged.pair_logits]
    rows[anchor][other] = rows[other][anchor] = None
    broken = PreferenceGroup(SIX, tuple(map(tuple, rows)), judged.truncated, anchors=judged.anchors)
    with pytest.raises(DataError, match="there is no verdict on responses"):
        group_logits(broken)
    assert split_judged([judged, broken])[0] == [judged]
    assert [item.reason for item in split_judged([judged, broken])[1]] == ["no verdict on a pair"]


def test_logits_that_are_unknown_one_way_only_are_refused():
    logits = np.asarray([[0, np.nan], [1.0, 0]])
    with pytest.raises(ValueError, match="finite"):
        win_matrix(logits)
    with pytest.raises(ValueError, match="compared with no other"):
        win_rates(np.asarray([[0.5, np.nan], [np.nan, 0.5]]), opponents="leave-one-out")
    with pytest.raises(ValueError, match="add up to 1"):
        win_rates(np.asarray([[0.5, np.nan], [0.3, 0.5]]), opponents="leave-one-out")


def test_rank_tells_what_was_not_compared_and_select_reads_it(tmp_path):
    source, ranked, examples = (tmp_path / name for name in ("in.jsonl", "ranked.jsonl", "examples.jsonl"))
    texts = ["red", "green cat", "two", "horse", "apple"]
    lines = [{"id": str(n), "prompt": f"what is {n}?", "responses": texts} for n in range(4)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    oracle = ["oracle.kind=pair_model", f"oracle.model={save_pair_model(tmp_path / 'pair')}", "oracle.num_anchors=1"]
    settings = [part for one in oracle for part in ("--set", one)]
    assert run(["rank", "--input", str(source), "--output", str(ranked), *settings]) == 0
    for row in map(json.loads, ranked.read_text().splitlines()):
        (anchor,) = row["anchors"]
        unknown = {(i, j) for i, probs in enumerate(row["win_probs"]) for j, prob in enumerate(probs) if prob is None}
        assert unknown == {(i, j) for i in range(5) for j in range(5) if i != j and anchor not in (i, j)}
        assert all(0 < rate < 1 for rate in row["win_rates"])
    assert run(["select", "--input", str(ranked), "--output", str(examples)]) == 0
    assert len(examples.read_text().splitlines()) == 4
    assert run(["audit-oracle", str(ranked)]) == 0


def test_one_anchor_of_a_learned_model_costs_a_third(tmp_path):
    folder = save_pair_model(tmp_path / "pair")
    whole, part = (
        build_oracle(PairModelSettings(model=str(folder), num_anchors=m)).pair_logits([SIX])[0] for m in (0, 1)
    )
    read = [(i, j) for i in range(6) for j in range(6) if i != j and part.pair_logits[i][j] is not None]
    assert len(read) == 10
    np.testing.assert_allclose(
        [part.pair_logits[i][j] for i, j in read], [whole.pair_logits[i][j] for i, j in read], atol=1e-5
    )


def test_settings_that_can_not_be_met_are_refused():
    with pytest.raises(SettingsError, match="num_anchors: -1"):
        PairModelSettings(model="m", num_anchors=-1)
