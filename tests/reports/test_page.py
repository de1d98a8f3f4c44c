import base64
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from fairplay.records import Interval, Message
from fairplay.reports.contents import (
    CanaryGames,
    Gates,
    HeldOutLengths,
    LengthEvidence,
    PolicyMarks,
    SeenPrompts,
    StageAccount,
)
from fairplay.reports.page import render_page, write_report
from reports.page_parts import UNDEFINED, Page, around, contents, evaluation, iteration, sample

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\u2029&amp;<!--"


@pytest.fixture(scope="module")
def page():
    return Page(render_page(contents()))


def hostile():
    attacked = evaluation(judge=ATTACK, opponent=ATTACK, notes=(ATTACK,), dropped={ATTACK: 30})
    return contents(
        run=ATTACK,
        objective=ATTACK,
        judge=ATTACK,
        oracle=ATTACK + "!",
        settings=ATTACK,
        notes=(ATTACK,),
        length_unit=ATTACK,
        gates=Gates(
            canaries=(CanaryGames(ATTACK, ATTACK, None, 0, ATTACK),),
            seen_prompts=(SeenPrompts(10, 9, 1, 0, 3, (ATTACK,)),),
            marks=(PolicyMarks(ATTACK, 9, ((ATTACK, ATTACK, 3, (ATTACK,)),), 0.5),),
        ),
        iterations=(
            iteration(
                evaluations=(attacked,), audit={ATTACK: 0.1}, stages=(StageAccount(ATTACK, 10, 5, {ATTACK: 5}, 1.0, 1),)
            ),
        ),
        samples=(
            sample(
                prompt_id=ATTACK,
                messages=(Message("user", ATTACK),),
                policy=ATTACK,
                policy_text=ATTACK,
                opponent_text=ATTACK,
            ),
        ),
    )


def test_no_text_of_a_model_or_a_name_becomes_markup():
    plain = Page(render_page(replace(hostile(), run="x", settings="x", length_unit="x")))
    attacked = Page(render_page(hostile()))
    count = [tag for tag, _ in attacked.elements].count
    assert count("script") == 2
    assert count("img") == 0
    assert len(plain.elements) == len(attacked.elements)
    assert not [key for _, attributes in attacked.elements for key in attributes if key.startswith("on")]
    assert attacked.text.count("onerror=alert(2)") >= 10


def test_the_gates_show_what_was_found_and_alarms_are_marked():
    shown = Gates(
        canaries=(
            CanaryGames("An empty response", "at most 10 %", Interval(0.304, 0.2, 0.4), 50, "It wins."),
            CanaryGames("A dot", "at most 10 %", Interval(0.0, 0.0, 0.05), 50, ""),
        ),
        seen_prompts=(SeenPrompts(40, 900, 1, 2, 3, ("p7",)),),
        marks=(
            PolicyMarks("start", 90, (), 0.02),
            PolicyMarks("iteration 1", 90, (("fence", "an end", 3, ("p1", "p2")),), 0.5),
        ),
    )
    page = Page(render_page(contents(gates=shown)))
    assert "An empty responseat most 10 %30.4 % [20.0, 40.0]50alarm" in page.words
    assert "A dotat most 10 %0.0 % [0.0, 5.0]50as it must" in page.words
    assert "Of 40 held-out prompts, 1 are among the 900 training prompts" in page.words
    assert "fence: 3 (an end; prompts p1, p2)" in page.words
    assert [attributes.get("class") for tag, attributes in page.elements if tag == "li"].count("alarm") == 2


def test_the_gap_and_winning_against_length_are_drawn_from_what_is_there():
    evidence = LengthEvidence(((-5.0, around(0.3)), (6.0, around(0.8))), ((-9.0, 0.2), (9.0, 0.9)))
    with_both = contents(
        iterations=(iteration(1, length_evidence=(evidence,)), iteration(2, length_evidence=(evidence,)))
    )
    told = Page(render_page(with_both)).words
    assert "Over-optimisation gap" in told
    assert "Winning against length" in told
    assert "Thin lines are earlier iterates" in told
    without = Page(render_page(contents(iterations=(iteration(1, oracle_gaps={}),)))).words
    assert "Over-optimisation gap" not in without
    assert "Winning against length" not in without


def test_hostile_samples_come_back_unchanged():
    (found,) = Page(render_page(hostile())).samples
    assert found["policy"][2] == found["opponent"][2] == found["messages"][0][1] == found["prompt"] == ATTACK


def test_sample_data_has_no_character_that_could_end_its_element():
    html = render_page(hostile())
    data = html.split('id="samples-data">')[1].split("</script>")[0]
    assert not set(data) & set("<>&\u2028\u2029")


def test_nothing_may_run_but_the_pages_own_script_and_style(page):
    meta = next(
        attributes for _, attributes in page.elements if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    policy = dict(part.strip().split(" ", 1) for part in meta["content"].split(";"))
    digests = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in (page.styles[0], page.scripts[-1])
    ]
    assert policy["default-src"] == "'none'"
    assert [policy["style-src"], policy["script-src"]] == digests
    assert "unsafe" not in meta["content"]


def test_a_policy_against_inline_styles_takes_nothing_away_from_figures(page):
    assert len(page.styles) == 1
    assert not [tag for tag, attributes in page.elements if "style" in attributes]


def test_page_names_no_other_place(page):
    html = render_page(contents())
    addresses = set(re.findall(r"""(?:https?:)?//[a-z][^\s"'<>)]*""", html)) - {"http://www.w3.org/2000/svg"}
    assert {address for address in addresses if address.startswith("http")} == set()
    for _, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "data", "poster"):
            assert attributes.get(key, "#").startswith("#")


def test_ids_are_unique_and_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {value[1:] for _, attributes in page.elements for key, value in attributes.items() if key == "href"}
    clips = {attributes["clip-path"][5:-1] for _, attributes in page.elements if "clip-path" in attributes}
    assert links | clips <= set(ids)


def test_numbers_of_the_contents_stand_on_the_page(page):
    words = page.words.replace("\N{NO-BREAK SPACE}", " ")
    for expected in (
        "Iteration 2 is better than the start policy.",
        "64.0 % [59.0, 69.0]",
        "62.0 % [57.0, 67.0]",
        "120 / 16 / 64",
        "21.5 20.5",
        "95.0 %",
        "12.3 %",
        "−0.25",
        "1,234",
        "something_new",
        "2 x tie, 1 x too long",
        "1 min 05 s",
        "4,321",
        "name: trial seed: 3",
    ):
        assert expected in words


def test_samples_hold_both_orders_of_both_judges(page):
    assert len({one["id"] for one in page.samples}) == 30
    first = page.samples[0]
    assert first["judge"] == [0.7, 0.6, 0.65]
    assert first["oracle"] == [0.4, 0.3, 0.35]


def test_every_figure_has_a_title_a_label_and_a_caption(page):
    tags = [tag for tag, _ in page.elements]
    labels = [
        attributes["aria-label"] for tag, attributes in page.elements if tag == "svg" and "aria-label" in attributes
    ]
    assert tags.count("figure") == tags.count("figcaption") == len(labels) == 11
    assert len(set(labels)) == 11


def test_same_contents_give_the_same_bytes_in_another_process(tmp_path):
    program = (
        "import sys, pathlib; from fairplay.reports.page import write_report; from reports.page_parts import contents;"
        "write_report(contents(), pathlib.Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "other")],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    path = write_report(contents(), tmp_path / "this")
    assert path == tmp_path / "this" / "index.html"
    assert path.read_bytes() == (tmp_path / "other" / "index.html").read_bytes()


def test_an_older_page_is_replaced_and_nothing_else_is_left(tmp_path):
    write_report(contents(run="old"), tmp_path)
    path = write_report(contents(run="new"), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert "<b>new</b>" in path.read_text(encoding="utf-8")


def test_a_run_without_a_finished_iteration_has_a_page():
    page = Page(render_page(contents(iterations=(), samples=(), start=HeldOutLengths((), 0.0))))
    assert "No iteration has finished yet." in page.words
    assert "figure" not in [tag for tag, _ in page.elements]


def test_a_run_with_one_prompt_and_one_response_has_a_page():
    lone = iteration(
        evaluations=(
            evaluation(num_prompts=1, num_judgements=1, win_rate=Interval(1.0, 1.0, 1.0), wins=1, ties=0, losses=0),
        ),
        held_out=HeldOutLengths((7,), 0.0),
        metrics=({"step": 1.0, "loss": 0.5},),
    )
    page = Page(render_page(contents(iterations=(lone,), start=HeldOutLengths((7,), 0.0), samples=(sample(),))))
    assert "on 1 held-out prompt," in page.words


def test_undefined_length_control_is_said_and_never_printed_as_nan():
    page = Page(render_page(contents(iterations=(iteration(evaluations=(evaluation(lc_win_rate=UNDEFINED),)),))))
    assert "No length control." in page.words
    assert "a win rate at equal length can’t be given" in page.words
    assert "nan" not in page.text.lower()


def test_a_run_without_metrics_has_no_training_figures():
    page = Page(render_page(contents(iterations=(iteration(metrics=()),))))
    assert "training" not in [attributes.get("id") for _, attributes in page.elements]
    assert [tag for tag, _ in page.elements].count("figure") == 4


def test_text_that_utf8_cannot_hold_is_written_all_the_same(tmp_path):
    path = write_report(contents(run="half \ud800", samples=(sample(policy_text="half \ud800 pair"),)), tmp_path)
    assert Page(path.read_text(encoding="utf-8")).samples[0]["policy"][2] == "half \ud800 pair"


def test_page_of_300_long_samples_stays_small():
    text = "A sentence of some length, said again and again. " * 100
    samples = tuple(sample(number, policy_text=text, opponent_text=text) for number in range(300))
    html = render_page(contents(samples=samples))
    assert len(html.encode()) < 1_500_000
    first = Page(html).samples[0]
    assert len(first["policy"][2]) + first["policy"][3] == len(text)
    assert first["policy"][3] > 0
