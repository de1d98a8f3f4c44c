import math
from dataclasses import replace

import pytest

from fairplay.reports.banners import chosen_fall, find_warnings
from fairplay.reports.contents import CanaryGames, Gates, HeldOutLengths, PolicyMarks, SeenPrompts, StageAccount
from reports.page_parts import UNDEFINED, around, contents, evaluation, iteration, metrics


def titles(one):
    return [banner.title for banner in find_warnings(one)]


def audited(**audit):
    return contents(iterations=(iteration(audit=audit),))


def judged(**changes):
    return contents(iterations=(iteration(evaluations=(evaluation(**changes),)),))


CANARY = CanaryGames("An empty response", "at most 10 %", around(0.3), 50, "It wins 30.0 %.")


def gated(**found):
    return contents(gates=Gates(**found))


def marked(*marks, share=0.01):
    return PolicyMarks("iteration 2", 200, marks, share)


def test_what_voids_the_result_is_an_alarm_and_comes_first():
    made = contents(
        judge="one",
        oracle="one",
        gates=Gates(canaries=(CANARY,), seen_prompts=(SeenPrompts(100, 9, 1, 0, 3, ()),)),
        notes=("Say this.",),
    )
    found = [(banner.title, banner.is_alarm) for banner in find_warnings(made)]
    assert found == [
        ("The oracle is its own judge", True),
        ("A canary sings", True),
        ("Held-out prompts were trained on", False),
        ("Note", False),
    ]
    many = gated(seen_prompts=(SeenPrompts(100, 9, 4, 2, 3, ()),))
    assert [banner.is_alarm for banner in find_warnings(many)] == [True]


def test_near_copies_are_not_called_training_prompts_where_none_is_equal():
    (banner,) = find_warnings(gated(seen_prompts=(SeenPrompts(300, 900, 0, 33, 3, ()),)))
    assert banner.title == "Held-out prompts are close to training ones"
    assert banner.text.startswith("33 of 300 held-out prompts are near copies of training prompts")
    (both,) = find_warnings(gated(seen_prompts=(SeenPrompts(300, 900, 2, 33, 3, ()),)))
    assert both.title == "Held-out prompts were trained on"
    assert both.text.startswith("2 of 300 held-out prompts are training prompts but for case and punctuation, and 33 ")


def test_gates_that_found_little_raise_no_warning():
    assert titles(gated(seen_prompts=(SeenPrompts(100, 9, 0, 0, 100, ()),))) == []
    assert titles(gated(canaries=(replace(CANARY, alarm=""),))) == []
    assert titles(gated(marks=(marked(), marked(("fence", "", 2, ()))))) == []
    assert titles(gated(marks=(marked(share=0.15), marked(share=0.2)))) == []


def test_a_stage_that_lost_most_of_its_rows_is_named_with_the_reasons():
    kept = StageAccount("1-prompts", 1000, 1000, {}, 1, 0)
    lost = StageAccount("4-examples", 20, 2, {"all responses are equal": 18}, 1, 0)
    found = find_warnings(contents(iterations=(iteration(stages=(kept, lost)),)))
    assert found[0].title == "Most rows were lost"
    assert "4-examples left out 18 of 20 rows (18 x all responses are equal)" in found[0].text
    half = StageAccount("4-examples", 20, 10, {"all responses are equal": 10}, 1, 0)
    assert "Most rows were lost" not in titles(contents(iterations=(iteration(stages=(kept, half)),)))


def test_a_sound_run_has_no_warnings():
    assert titles(contents()) == []


@pytest.mark.parametrize(
    ("made", "title"),
    [
        (contents(judge="one", oracle="one"), "The oracle is its own judge"),
        (gated(oracle_is_judge=True), "The oracle is its own judge"),
        (gated(canaries=(CANARY,)), "A canary sings"),
        (gated(seen_prompts=(SeenPrompts(100, 9, 1, 0, 3, ("p1",)),)), "Held-out prompts were trained on"),
        (gated(marks=(marked(), marked(("verdict token", "", 3, ())))), "Responses carry marks for the judge"),
        (gated(marks=(marked(share=0.05), marked(share=0.2))), "One response to many prompts"),
        (judged(dropped={"no verdict": 10}), "Games are missing"),
        (judged(overlap=0.05), "Length control extrapolates"),
        (judged(lc_win_rate=UNDEFINED), "No length control"),
        (judged(position_consistency=0.6), "The judge minds the order"),
        (judged(mean_length=30.0, lc_win_rate=around(0.55)), "Length explains a part"),
        (judged(mean_length=12.0, lc_win_rate=around(0.55)), "Brevity explains a part"),
        (contents(iterations=(iteration(held_out=HeldOutLengths((5, 5), 0.2)),)), "Responses are cut"),
        (contents(iterations=(iteration(metrics=metrics(chosen_slope=-0.3)),)), "Chosen responses became less likely"),
        (contents(iterations=(iteration(metrics=({"loss": math.nan},)),)), "Training metrics are not finite"),
        (
            contents(iterations=(iteration(stages=(StageAccount("rank", 9, 8, {"tie": 1}, 1, 0),)),)),
            "Rows were left out",
        ),
        (audited(order_flip_rate=0.3), "The oracle minds the order"),
        (
            audited(intransitive_triple_rate=0.15, intransitive_triple_rate_by_chance=0.25),
            "Preferences run in circles",
        ),
        (
            audited(near_duplicate_rate=0.1, near_duplicate_margin=0.6, mean_margin=0.5),
            "The oracle is sure about trifles",
        ),
        (contents(notes=("Say this.",)), "Note"),
    ],
)
def test_each_fault_raises_its_own_warning_and_no_other(made, title):
    assert titles(made) == [title]


@pytest.mark.parametrize(
    "audit",
    [
        {"intransitive_triple_rate": 0.1, "intransitive_triple_rate_by_chance": 0.25},
        {"near_duplicate_rate": 0.001, "near_duplicate_margin": 0.6, "mean_margin": 0.5},
        {"near_duplicate_rate": 0.1, "near_duplicate_margin": 0.2, "mean_margin": 0.5},
    ],
)
def test_an_oracle_within_the_limits_raises_no_alarm(audit):
    assert titles(audited(**audit)) == []


def test_growth_without_a_gap_at_equal_length_raises_no_alarm():
    assert titles(judged(mean_length=30.0)) == []


def test_noise_in_chosen_log_probs_is_no_fall():
    assert chosen_fall(iteration(metrics=metrics(40))) == 0.0
    assert chosen_fall(iteration(metrics=metrics(40, chosen_slope=-0.1))) == pytest.approx(3.2, abs=0.2)
    assert chosen_fall(iteration(metrics=metrics(10, chosen_slope=-0.1))) == 0.0
