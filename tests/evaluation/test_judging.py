from dataclasses import replace
from math import nan

import numpy as np
import pytest

from fairplay.errors import DataError
from fairplay.evaluation.judging import JUDGE_FAILED, NO_OPPONENT, NO_POLICY, judge_groups
from fairplay.oracles.rule import RuleOracle
from fairplay.records import PreferenceGroup

from .worlds import group


def by_word_count(prompt, text):
    return float(len(text.split()))


class FirstShownJudge:
    """Prefers more words, adds a bonus to what is shown first, and keeps what it was asked."""

    name = "first-shown"

    def __init__(self, bonus=0.0, temperature=1.0, breaks_on=None, says=None):
        self.bonus, self.temperature, self.breaks_on, self.says = bonus, temperature, breaks_on, says
        self.asked = []

    def pair_logits(self, groups):
        texts = [[response.text for response in item.responses] for item in groups]
        self.asked.append(texts)
        if self.breaks_on is not None and any(self.breaks_on in text for pair in texts for text in pair):
            raise DataError("a verdict is not a finite number")
        return [self.judge(item) for item in groups]

    def judge(self, item):
        words = np.array([len(response.text.split()) for response in item.responses], dtype=float)
        logits = np.subtract.outer(words, words) + self.bonus * (1 - np.eye(len(words)))
        if self.says is not None and self.says[0] in item.responses[0].text:
            logits[0, 1] = self.says[1]
        return PreferenceGroup(item, tuple(map(tuple, logits.tolist())), (False,) * len(words))


def test_sample_meets_sample_and_both_orders_are_kept():
    judge = FirstShownJudge(bonus=1.0, temperature=2.0)
    judged = judge_groups(judge, [group("a", "one", "one two three")], [group("a", "one two", "one")])
    first, second = judged.judgements
    assert (first.sample, second.sample) == (0, 1)
    # Policy shown first: logit (-1 + 1) / 2; shown second: the opponent's logit is (1 + 1) / 2.
    assert first.win_prob_first == 0.5
    assert first.win_prob_second == pytest.approx(1 / (1 + np.exp(1.0)))
    assert second.win_prob_first == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert second.win_prob == pytest.approx((1 / (1 + np.exp(-1.5)) + 1 / (1 + np.exp(-0.5))) / 2)


def test_swapping_policy_and_opponent_flips_every_verdict():
    judge = FirstShownJudge(bonus=0.7)
    policy = [group("a", "one two"), group("b", "one")]
    opponent = [group("b", "one two three"), group("a", "one")]
    there = {item.prompt_id: item for item in judge_groups(judge, policy, opponent).judgements}
    back = {item.prompt_id: item for item in judge_groups(judge, opponent, policy).judgements}
    for prompt_id, item in there.items():
        assert item.win_prob_first == pytest.approx(1 - back[prompt_id].win_prob_second)
        assert item.policy_length == back[prompt_id].opponent_length


def test_a_rule_oracle_judges_by_the_protocol():
    judged = judge_groups(RuleOracle(by_word_count, identity="words"), [group("a", "x y z")], [group("a", "x")])
    assert judged.judgements[0].win_prob == pytest.approx(1 / (1 + np.exp(-2)))


def test_identical_texts_are_an_exact_tie_that_the_judge_does_not_see():
    judge = FirstShownJudge(bonus=5.0)
    judged = judge_groups(judge, [group("a", "same"), group("b", "more words")], [group("a", "same"), group("b", "x")])
    tie = judged.judgements[0]
    assert (tie.win_prob_first, tie.win_prob_second) == (0.5, 0.5)
    assert judge.asked == [[["more words", "x"]]]
    assert any("identical texts" in note for note in judged.notes)


def test_what_only_one_side_has_is_dropped_by_sample_with_its_reason():
    policy = [group("a", "x", "y y"), group("only-policy", "x", "y")]
    opponent = [group("a", "z z z"), group("only-opponent", "x")]
    judged = judge_groups(FirstShownJudge(), policy, opponent)
    assert [(item.id, item.reason) for item in judged.dropped] == [
        ("a", NO_OPPONENT),
        ("only-policy", NO_OPPONENT),
        ("only-policy", NO_OPPONENT),
        ("only-opponent", NO_POLICY),
    ]
    assert len(judged.judgements) == 1


def test_a_failure_drops_its_pair_alone_and_is_never_a_tie():
    judge = FirstShownJudge(breaks_on="poison")
    policy = [group(f"p{i}", "poison" if i in (3, 17) else f"text {i}") for i in range(20)]
    judged = judge_groups(judge, policy, [group(f"p{i}", "x") for i in range(20)])
    assert [(item.id, item.reason) for item in judged.dropped] == [("p3", JUDGE_FAILED), ("p17", JUDGE_FAILED)]
    assert len(judged.judgements) == 18
    assert all(item.win_prob != 0.5 for item in judged.judgements)


@pytest.mark.parametrize("verdict", [nan, float("inf"), -float("inf")])
def test_a_verdict_that_is_not_finite_is_a_failure(verdict):
    judge = FirstShownJudge(says=("odd", verdict))
    judged = judge_groups(judge, [group("a", "odd"), group("b", "y y")], [group("a", "x x"), group("b", "x")])
    assert [(item.id, item.reason) for item in judged.dropped] == [("a", JUDGE_FAILED)]
    assert [item.prompt_id for item in judged.judgements] == ["b"]


def test_duplicate_prompts_and_prompts_that_differ_are_refused():
    with pytest.raises(DataError, match="twice among the responses of the opponent"):
        judge_groups(FirstShownJudge(), [group("a", "x")], [group("a", "x"), group("a", "y")])
    with pytest.raises(DataError, match="asked different things"):
        judge_groups(FirstShownJudge(), [group("a", "x")], [group("a", "y", question="Other?")])


def test_a_judge_that_returns_fewer_groups_is_refused():
    class Forgetful(FirstShownJudge):
        def pair_logits(self, groups):
            return super().pair_logits(groups)[:-1]

    with pytest.raises(DataError, match="other prompts"):
        judge_groups(Forgetful(), [group("a", "x"), group("b", "x")], [group("a", "y"), group("b", "y")])


def test_lengths_are_tokens_where_all_have_them_else_characters_for_all():
    with_ids = [group("a", "three", token_ids=(1, 2, 3))], [group("a", "four", token_ids=(1, 2, 3, 4))]
    judged = judge_groups(FirstShownJudge(), *with_ids)
    assert judged.length_unit == "tokens"
    assert (judged.judgements[0].policy_length, judged.judgements[0].opponent_length) == (3, 4)
    mixed = judge_groups(FirstShownJudge(), with_ids[0], [group("a", "some text")])
    assert mixed.length_unit == "characters"
    assert (mixed.judgements[0].policy_length, mixed.judgements[0].opponent_length) == (5, 9)
    assert "Lengths are in characters." in mixed.notes


def test_cut_responses_and_texts_read_in_part_are_noted():
    class Short(FirstShownJudge):
        def judge(self, item):
            return replace(super().judge(item), truncated=(True, False))

    judged = judge_groups(Short(), [group("a", "x y", finish_reason="length")], [group("a", "x")])
    assert any("read only a part" in note for note in judged.notes)
    assert any("policy 1, opponent 0" in note for note in judged.notes)


def test_more_pairs_than_go_at_once_keep_their_order():
    policy = [group(f"p{i}", "w " * (i % 7 + 1)) for i in range(600)]
    judged = judge_groups(FirstShownJudge(), policy, [group(f"p{i}", "one two three") for i in range(600)])
    assert [item.prompt_id for item in judged.judgements] == [f"p{i}" for i in range(600)]
    expected = [1 / (1 + np.exp(3.0 - (i % 7 + 1))) for i in range(600)]
    assert np.allclose([item.win_prob for item in judged.judgements], expected)
