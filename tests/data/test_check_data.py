"""The lint tells what would train wrongly, what is doubtful, and how long texts are."""

import json

import pytest

from fairplay.data.check import check_data
from fairplay.data.findings import looks_cut_off
from fairplay.data.reading import read_examples
from fairplay.errors import DataError


def lines(path, *rows):
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


def pair(prompt, chosen="Yes.", rejected="No.", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def counts(report):
    return {finding.reason: finding.count for finding in report.findings}


def test_hh_rlhf_reports_all_pairs_and_reading_keeps_what_check_calls_usable(golden):
    source = golden / "hh_rlhf" / "harmless_base.jsonl.gz"
    report = check_data(source)
    assert (report.num_rows, report.num_pairs, report.num_usable, report.num_refused) == (1800, 1800, 1792, 0)
    assert counts(report) == {
        "chosen and rejected answer different prompts": 4,
        "dialogue turns out of order": 3,
        "empty response": 1,
        "response looks cut off": 150,
        "response repeats the prompt": 2,
        "duplicate prompt": 1,
    }
    assert len(read_examples(source).items) == report.num_usable


CUT = "word " * 25 + "and then the"
DOUBTFUL = [
    ("control token in a text", [pair("Why?", "Yes.<|im_end|>")]),
    ("control token in a text", [pair("[INST] Why? [/INST]")]),
    ("control token in a text", [pair("Why?", rejected="No.</s>")]),
    ("control token in a text", [pair("Why?", rejected="No.\n\nHuman: Why not?")]),
    ("NUL character in a text", [pair("Why\0?")]),
    ("response looks cut off", [pair("Why?", CUT)]),
    ("response repeats the prompt", [pair("Why is the sky blue today?", "Why is the sky blue today? Light.")]),
    ("conflicting preferences", [pair("Why?"), pair("Why?", "No.", "Yes.")]),
    (
        "conflicting preferences",
        [{"prompt": "Why?", "completion": "Yes.", "label": label} for label in (True, False)],
    ),
    ("chosen scores no higher than rejected", [pair("Why?", score_chosen=1, score_rejected=1)]),
    (
        "empty turn inside the prompt",
        [
            {
                "messages": [
                    {"role": r, "content": c}
                    for r, c in zip(("system", "user", "assistant"), ("", "a", "b"), strict=True)
                ]
            }
        ],
    ),
]


@pytest.mark.parametrize(("reason", "rows"), DOUBTFUL)
def test_doubtful_rows_are_told_and_kept(tmp_path, reason, rows):
    report = check_data(lines(tmp_path / "data.jsonl", *rows))
    (finding,) = [finding for finding in report.findings if finding.severity == "warning"]
    assert (finding.reason, finding.count) == (reason, 1)
    assert finding.examples[0].startswith(f"line {len(rows)}")
    assert (report.num_errors, report.num_usable) == (0, len(rows))


def test_clean_data_has_no_findings(tmp_path):
    report = check_data(lines(tmp_path / "data.jsonl", pair("Is 2 < 3 & [a] </b> {x}?", CUT + " end."), pair("Why?")))
    assert (report.findings, report.num_errors) == ((), 0)


def test_prompts_shared_with_the_other_data_are_counted(tmp_path):
    train = lines(tmp_path / "train.jsonl", *[pair(f"Number {n}?") for n in range(5)])
    test = lines(tmp_path / "test.jsonl", *[{"prompt": f"Number {n}?"} for n in range(3, 9)])
    assert counts(check_data(train, against=test)) == {"prompt also in the other data": 2}
    assert counts(check_data(train)) == {}


def test_the_length_bias_is_that_of_the_pairs(tmp_path):
    rows = [pair("a", "x" * 10, "y y"), pair("b", "x x x", "y" * 5), pair("c", "x" * 4, "y" * 9)]
    report = check_data(lines(tmp_path / "data.jsonl", *rows))
    characters, words = report.length_bias
    assert (characters.unit, words.unit) == ("characters", "words")
    assert characters.share_chosen_longer == pytest.approx(1 / 3)
    assert characters.share_equal == pytest.approx(1 / 3)
    assert characters.mean_gap == pytest.approx((7 + 0 - 5) / 3)
    assert words.mean_gap == pytest.approx((-1 + 2 + 0) / 3)
    (chosen,) = [each for each in report.lengths if (each.side, each.unit) == ("chosen", "characters")]
    assert (chosen.mean, chosen.median, chosen.maximum) == (pytest.approx(19 / 3), 5.0, 10)


def test_turns_count_what_users_said(tmp_path):
    roles = ("user", "assistant") * 3
    rows = [{"messages": [{"role": r, "content": f"{n} {r}"} for r in roles[: 2 * n]]} for n in (1, 3)]
    turns = check_data(lines(tmp_path / "data.jsonl", *rows)).turns
    assert (turns.mean, turns.maximum, turns.share_multi_turn) == (2.0, 3, 0.5)


def test_prompts_alone_can_be_checked(tmp_path):
    report = check_data(lines(tmp_path / "data.jsonl", {"question": "Why?"}, {"question": "Why?"}, {"question": ""}))
    assert counts(report) == {"duplicate row": 1, "empty prompt": 1}
    assert (report.num_pairs, report.length_bias) == (0, ())
    assert report.format == "prompts: `question` (text)"


def test_a_report_without_one_usable_row_is_still_a_report(tmp_path):
    report = check_data(lines(tmp_path / "data.jsonl", pair("Why?", "Yes.", "Yes.")))
    assert (report.num_errors, report.num_pairs, report.num_usable, report.lengths) == (1, 1, 0, ())


def test_the_report_is_json(tmp_path):
    report = check_data(lines(tmp_path / "data.jsonl", pair("Why?"), pair("Why?", "Yes.", "")))
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (told["num_errors"], told["findings"][0]["reason"]) == (1, "empty response")


def test_columns_of_neither_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match="wrong columns"):
        check_data(lines(tmp_path / "data.jsonl", {"text": "a"}))


@pytest.mark.parametrize(
    ("text", "cut"),
    [(CUT, True), (CUT + ",", True), (CUT + ".", False), (CUT + "\n- one\n- two", False), ("Yes", False), ("", False)],
)
def test_a_longer_text_that_stops_in_the_middle_looks_cut_off(text, cut):
    assert looks_cut_off(text) is cut


def test_a_misspelt_half_of_a_pair_is_no_list_of_prompts(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "a?", "chosen": "yes", "rejeted": "no"}\n')
    with pytest.raises(DataError, match=r"did you mean `rejected`"):
        check_data(path)


@pytest.mark.parametrize(
    ("num_longer", "num_shorter", "found"),
    [
        (0, 20, [("chosen is nearly always the shorter one", "warning", 20)]),
        (19, 1, [("chosen is nearly always the longer one", "warning", 19)]),
        (18, 2, []),
        (2, 18, []),
        (9, 0, []),
    ],
)
def test_lengths_that_alone_tell_what_is_chosen_are_a_finding_in_both_directions(
    tmp_path, num_longer, num_shorter, found
):
    long, short = "This is the longer answer of the two.", "A short one."
    sides = [(long, short)] * num_longer + [(short, long)] * num_shorter
    source = lines(tmp_path / "pairs.jsonl", *(pair(f"Question {i}?", *both) for i, both in enumerate(sides)))
    report = check_data(source)
    assert [(finding.reason, finding.severity, finding.count) for finding in report.findings] == found


def test_rows_that_are_left_out_while_training_goes_on_are_warnings(tmp_path):
    rows = [pair("Why?"), pair("Why?"), pair("How?", "", "No."), pair("Who?", "Same.", "Same.")]
    report = check_data(lines(tmp_path / "pairs.jsonl", *rows))
    left_out = {"duplicate row", "empty response", "identical responses"}
    assert {finding.severity for finding in report.findings if finding.reason in left_out} == {"warning"}
    assert left_out <= {finding.reason for finding in report.findings}
    assert (report.num_usable, report.num_refused) == (1, 0)
