"""Pairs and their games: matched by what was asked, shown in the orders that were asked for, missing ones missing."""

import pytest

from fairplay.evaluation.protocols.games import Game, PlayedPair, match_pairs, post_of, questions_of
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.records import Message, Prompt, Response, ResponseGroup


def group(name, *texts, ask=None):
    prompt = Prompt(name, (Message("user", ask or f"Say {name}."),))
    return ResponseGroup(prompt, tuple(Response(text) for text in texts))


def test_prompts_are_matched_by_what_was_asked_and_nothing_is_lost():
    ours = [group("a", "1", "2", ask="same"), group("b", "3")]
    theirs = [group("z", "4", ask="same"), group("c", "5")]
    matched = match_pairs(ours, theirs)
    assert [(pair.prompt.id, pair.policy, pair.opponent) for pair in matched.pairs] == [("a", "1", "4")]
    assert sorted((item.id, item.reason) for item in matched.unmatched) == [
        ("a", "no response by the opponent"),
        ("b", "no response by the opponent"),
        ("c", "no response by the policy"),
    ]


def test_a_random_order_is_the_same_again_and_shows_either_side_first_about_as_often():
    pairs = match_pairs(*[[group(str(i), side) for i in range(400)] for side in ("ours", "theirs")]).pairs
    first = [games[0][0] for games in questions_of(pairs, "random", seed=3)]
    assert first == [games[0][0] for games in questions_of(pairs, "random", seed=3)]
    assert first != [games[0][0] for games in questions_of(pairs, "random", seed=4)]
    assert 150 < sum(first) < 250


def test_both_orders_show_the_same_pair_turned_round():
    pairs = match_pairs([group("a", "ours")], [group("a", "theirs")]).pairs
    ((there, back),) = questions_of(pairs, "both", seed=0)
    assert (there[1].first, there[1].second) == (back[1].second, back[1].first) == ("ours", "theirs")


def test_one_missing_game_makes_the_pair_missing():
    (pair,) = match_pairs([group("a", "ours")], [group("a", "theirs")]).pairs
    won = Game(True, Verdict(0.9, 1.0, "A", True, "A"))
    lost = Game(False, Verdict(0.9, 1.0, "A", True, "A"))
    missing = Game(False, NoVerdict("timed out", ""))
    assert PlayedPair(pair, (won, lost)).win_prob == pytest.approx(0.5)
    assert PlayedPair(pair, (won, missing)).win_prob is None
    assert PlayedPair(pair, (won, missing)).failures == ("timed out",)


def test_of_a_tldr_prompt_the_judge_sees_the_post_alone():
    prompt = "SUBREDDIT: r/x\n\nTITLE: My cat\n\nPOST: It sleeps. POST: is a word.\n\nTL;DR:"
    assert post_of(prompt) == "It sleeps. POST: is a word."
    assert post_of("Just a text, with TL;DR: inside.") == "Just a text, with TL;DR: inside."
    pairs = match_pairs([group("a", "ours", ask=prompt)], [group("a", "theirs", ask=prompt)]).pairs
    ((game,),) = questions_of(pairs, "random", seed=0, posts=True)
    assert game[1].prompt.messages == (Message("user", "It sleeps. POST: is a word."),)
