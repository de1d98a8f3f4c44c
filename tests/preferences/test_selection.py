"""Selection: which responses become examples, and that all which is left out is counted with its reason."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairplay.errors import DataError, SettingsError
from fairplay.preferences.selection import (
    ALL_EQUAL,
    NOT_GIVEN,
    SELECTIONS,
    SMALL_MARGIN,
    TIE,
    TOO_FEW,
    Selection,
    select_examples,
    select_given,
)
from fairplay.preferences.settings import GIVEN, KINDS, SelectionSettings
from fairplay.preferences.win_matrix import win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import Dropped, Message, PreferenceGroup, Prompt, Response, ResponseGroup

JUDGED_KINDS = sorted(set(KINDS) - {GIVEN})
PAIR_KINDS = sorted(set(JUDGED_KINDS) - {"all"})


def judged(logits, texts: str | list[str] = "", prompt_id: str = "p") -> PreferenceGroup:
    """A group with these pair logits; texts are a, b, c ... unless given."""
    logits = np.asarray(logits, dtype=float)
    texts = texts or [chr(ord("a") + i) for i in range(len(logits))]
    responses = tuple(
        Response(text, token_ids=(i + 1, 2), finish_reason="stop", seed=i) for i, text in enumerate(texts)
    )
    group = ResponseGroup(Prompt(prompt_id, (Message("user", "Which?"),)), responses, prompt_token_ids=(7, 8))
    return PreferenceGroup(group, tuple(map(tuple, logits.tolist())), (False,) * len(logits))


def ranked(*strengths: float, **more) -> PreferenceGroup:
    r = np.asarray(strengths)
    return judged(r[:, None] - r[None, :], **more)


def select(*groups: PreferenceGroup, seed=0, temperature=1.0, with_scores=False, **settings) -> Selection:
    chosen = SelectionSettings(**settings)
    return select_examples(groups, chosen, temperature=temperature, seed=seed, with_scores=with_scores)


def texts_of(selection: Selection) -> list[tuple[str, ...]]:
    return [tuple(response.text for response in example.responses) for example in selection.examples]


@given(st.data(), st.sampled_from(JUDGED_KINDS), st.integers(2, 16))
def test_every_kind_keeps_responses_with_their_own_win_rates(data, kind, k):
    strengths = data.draw(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=k, max_size=k, unique=True))
    group = ranked(*strengths)
    (example,) = select(group, kind=kind).examples
    rates = dict(
        zip(
            "abcdefghijklmnop",
            win_rates(win_matrix(np.asarray(group.pair_logits)), opponents="leave-one-out"),
            strict=False,
        )
    )
    assert example.win_rates == pytest.approx([rates[response.text] for response in example.responses])
    ((chosen, rejected),) = example.pairs
    assert example.win_rates[chosen] > example.win_rates[rejected]
    assert (example.id, example.prompt_token_ids, example.prompt.id) == ("p", (7, 8), "p")
    assert all(response.token_ids for response in example.responses)
    assert len(example.responses) == (k if kind == "all" else 2)


def test_all_marks_the_best_and_the_worst():
    (example,) = select(ranked(0.1, 2.0, -1.0, 0.3), kind="all").examples
    assert (example.pairs, len(example.win_rates)) == (((1, 2),), 4)


def test_best_worst_is_the_published_choice_on_the_mixed_matrix():
    d = np.zeros((5, 5))
    d[np.triu_indices(5, 1)] = [1.2, -0.8, 0.5, 0.3, 1.5, 0.2, 0.9, 0.4, 1.1, 0.6]
    selection = select(judged(d - d.T), kind="best-worst", rule="sppo-code", opponents="with-self")
    assert texts_of(selection) == [("b", "e")]
    assert selection.examples[0].win_rates == pytest.approx((0.622, 0.255), abs=6e-4)


def test_top_margin_takes_the_pairs_of_which_the_oracle_is_most_sure():
    d = np.array([[0, 2.0, -0.5], [-2.0, 0, 1.0], [0.5, -1.0, 0]])
    selection = select(judged(d), kind="top-margin", num_pairs=3)
    assert texts_of(selection) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert [example.id for example in selection.examples] == ["p#0", "p#1", "p#2"]


def test_best_random_is_drawn_by_the_runs_seed_and_the_prompt_alone():
    groups = [ranked(3.0, 0.0, 1.0, 2.0, -1.0, prompt_id=f"p{i}") for i in range(400)]
    whole = {example.id: example for example in select(*groups, kind="best-random").examples}
    (alone,) = select(groups[17], kind="best-random").examples
    assert alone == whole["p17"]
    rejected = Counter(example.responses[1].text for example in whole.values())
    assert set(rejected) == set("bcde")
    assert min(rejected.values()) > 70
    assert select(*groups, kind="best-random", seed=1).examples != tuple(whole.values())


def test_best_random_draws_several_without_repetition():
    selection = select(ranked(3.0, 0.0, 1.0, 2.0), kind="best-random", num_pairs=3)
    assert sorted(texts_of(selection)) == [("a", "b"), ("a", "c"), ("a", "d")]


def test_best_second_takes_the_two_highest_win_rates():
    assert texts_of(select(ranked(0.1, 2.0, -1.0, 0.3), kind="best-second")) == [("b", "d")]


CIRCLE = np.array([[0, 1.0, -1.0], [-1.0, 0, 1.0], [1.0, -1.0, 0]])


def test_nash_weighted_takes_the_best_of_a_ranking_and_what_it_beats_most_surely():
    assert texts_of(select(ranked(0.1, 2.0, -1.0, 0.3), kind="nash-weighted")) == [("b", "c")]
    assert select(ranked(0.1, 2.0), kind="nash-weighted", num_pairs=2).dropped == (Dropped("p#1", TOO_FEW),)


def test_nash_weighted_keeps_every_side_of_a_circle_and_leaves_out_what_all_of_it_beats():
    circle_and_loser = np.pad(CIRCLE, (0, 1), constant_values=0.5)
    circle_and_loser[3] = [-0.5, -0.5, -0.5, 0]
    selection = select(judged(circle_and_loser), kind="nash-weighted", num_pairs=4)
    assert sorted(texts_of(selection)) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert selection.dropped == (Dropped("p#3", TOO_FEW),)


def test_nash_weighted_draws_by_the_weights_of_the_winner():
    lopsided = np.array([[0, 0.8, 0.3], [0.2, 0, 0.9], [0.7, 0.1, 0]])
    d = np.log(np.divide(lopsided, lopsided.T, out=np.ones((3, 3)), where=lopsided.T > 0))
    groups = [judged(d, prompt_id=f"p{i}") for i in range(600)]
    selection = select(*groups, kind="nash-weighted")
    drawn = Counter(texts[0] for texts in texts_of(selection))
    np.testing.assert_allclose([drawn[text] / 600 for text in "abc"], [4 / 9, 2 / 9, 3 / 9], atol=0.05)
    assert set(texts_of(selection)) == {("a", "b"), ("b", "c"), ("c", "a")}
    (alone,) = select(groups[17], kind="nash-weighted").examples
    assert alone == next(example for example in selection.examples if example.id == "p17")


@pytest.mark.parametrize("kind", JUDGED_KINDS)
def test_a_group_of_equal_responses_is_dropped_and_counted(kind):
    selection = select(ranked(0.0, 0.0, 0.0, texts=["x"] * 3), ranked(1.0, 0.0, prompt_id="q"), kind=kind)
    assert selection.dropped == (Dropped("p", ALL_EQUAL),)
    assert [example.id for example in selection.examples] == ["q"]


@pytest.mark.parametrize("kind", JUDGED_KINDS)
def test_a_tie_is_dropped_and_counted(kind):
    selection = select(ranked(0.7, 0.7, 0.7), kind=kind)
    assert selection == Selection((), (Dropped("p", TIE),))


def test_a_perfect_circle_is_a_tie_of_win_rates_in_spite_of_rounding():
    circle = 0.7 * np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) + 0.1
    assert select(judged(circle), kind="best-worst").dropped == (Dropped("p", TIE),)


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_equal_texts_are_merged_for_pairs(kind):
    selection = select(ranked(1.0, 1.0, 0.0, 0.0, texts=["x", "x", "y", "y"]), kind=kind)
    assert texts_of(selection) == [("x", "y")]
    assert selection.examples[0].responses[0].seed == 0


def test_equal_texts_still_count_as_samples_of_the_policy():
    with_double, without = ranked(1.0, 0.0, 0.0, texts=["x", "y", "y"]), ranked(1.0, 0.0)
    (all_three,) = select(with_double, kind="all").examples
    assert len(all_three.responses) == 3
    assert all_three.win_rates[1] == pytest.approx((0.5 + select(without).examples[0].win_rates[1]) / 2)


def test_a_pair_that_is_too_close_is_dropped_with_its_own_reason():
    selection = select(ranked(0.1, 0.0), ranked(2.0, 0.0, prompt_id="q"), kind="best-worst", min_margin=0.2)
    assert selection.dropped == (Dropped("p", SMALL_MARGIN),)
    assert [example.id for example in selection.examples] == ["q"]


def test_pairs_that_do_not_exist_are_counted():
    selection = select(ranked(1.0, 0.0), kind="top-margin", num_pairs=3)
    assert selection.dropped == (Dropped("p#1", TOO_FEW), Dropped("p#2", TOO_FEW))


def test_groups_of_different_size_are_welcome():
    selection = select(*(ranked(*range(k), prompt_id=f"p{k}") for k in range(2, 17)), kind="all")
    assert [len(example.responses) for example in selection.examples] == list(range(2, 17))


@pytest.mark.parametrize("kind", JUDGED_KINDS)
def test_one_response_is_refused_naming_the_prompt(kind):
    with pytest.raises(DataError, match="prompt p: preferences need at least 2 responses, there is 1"):
        select(ranked(0.0), kind=kind)


@pytest.mark.parametrize("kind", JUDGED_KINDS)
def test_a_verdict_that_is_no_number_is_refused_naming_the_prompt(kind):
    with pytest.raises(DataError, match="prompt p: the pair logit"):
        select(judged([[0, np.nan], [0.0, 0]]), kind=kind)


def test_the_temperature_of_the_oracle_counts():
    sharp, soft = (select(ranked(1.0, 0.0), temperature=t).examples[0].win_rates for t in (0.5, 2.0))
    assert sharp[0] > soft[0] > 0.5


def test_the_table_of_sentences_names_the_kinds_that_exist():
    assert [kind for kind in KINDS if kind != GIVEN] == list(SELECTIONS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "best_worst"}, "did you mean `best-worst`"),
        ({"rule": "calibrate"}, "did you mean `calibrated`"),
        ({"opponents": "self"}, "with-self"),
        ({"num_pairs": 0}, "num_pairs"),
        ({"num_pairs": 2}, "`all` gives one example a prompt"),
        ({"kind": "best-worst", "num_pairs": 2}, "`best-worst` gives one example"),
        ({"kind": "best-second", "num_pairs": 2}, "`best-second` gives one example"),
        ({"kind": "nash_weighted", "num_pairs": 2}, "did you mean `nash-weighted`"),
        ({"min_margin": float("nan")}, "min_margin"),
        ({"min_margin": 1.5}, "min_margin"),
    ],
)
def test_settings_that_can_not_be_met_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        SelectionSettings(**settings)


def test_the_datas_own_response_is_chosen_over_one_that_the_policy_wrote():
    groups = [ranked(2.0, 1.0, 0.0, prompt_id=name) for name in "abcdefgh"]
    own = dict.fromkeys("abcdefg", "the data's")
    found = select_given(groups, own, seed=0)
    assert {example.responses[0].text for example in found.examples} == {"the data's"}
    assert len({example.responses[1].text for example in found.examples}) > 1
    assert [(item.id, item.reason) for item in found.dropped] == [("h", NOT_GIVEN)]
    assert select_given(list(reversed(groups)), own, seed=0).examples[::-1] == found.examples
    alone = judged([[0.0, 1.0], [0.0, 0.0]], ["the data's", "the data's"], prompt_id="a")
    assert select_given([alone], own, seed=0).dropped[0].reason == ALL_EQUAL
    with pytest.raises(SettingsError, match="data's own responses"):
        select(ranked(1.0, 0.0), kind=GIVEN)


def test_scores_are_mean_logits_of_beating_the_others_and_keep_a_circle_at_zero():
    circle = [[0.0, 2.0, -2.0], [-2.0, 0.0, 2.0], [2.0, -2.0, 0.0]]
    (example,) = select(judged(circle), ranked(3.0, 1.0, -1.0, prompt_id="q"), kind="all", with_scores=True).examples[
        -1:
    ]
    assert example.scores == pytest.approx((3.0, 0.0, -3.0))
    logits = np.array(circle)
    assert (logits - logits.T).sum(axis=1).tolist() == [0, 0, 0]
