"""What can't be used is refused or left out, always counted, with where it stands and how to mend it."""

import gzip
import json

import pytest

from fairplay.data.check import check_data
from fairplay.data.reading import read_examples, read_prompts
from fairplay.errors import DataError

GOOD = {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Mud."}
GOOD_CHAT = {
    "chosen": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."}],
    "rejected": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Mud."}],
}
GOOD_GROUP = {"prompt": "Name a colour.", "responses": ["Red.", "Mud."], "scores": [1, 0]}
GOOD_LABEL = {"prompt": "Name a colour.", "completion": "Red.", "label": True}
GOOD_HH = {
    "chosen": "\n\nHuman: Name a colour.\n\nAssistant: Red.",
    "rejected": "\n\nHuman: Name a colour.\n\nAssistant: Mud.",
}


def both(*turns):
    """A row whose two dialogues differ only in a final assistant turn."""
    start = [{"role": role, "content": content} for role, content in turns]
    return {side: [*start, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}


def lines(path, *rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return path


STRUCTURAL = [
    ("invalid JSON", GOOD, b'{"prompt": "a"; }\n'),
    ("torn last line", GOOD, b'{"prompt": "Wh'),
    ("not UTF-8", GOOD, b'{"prompt": "\xff"}\n'),
    ("not a JSON object", GOOD, b'["prompt"]\n'),
    ("missing value", GOOD, {"prompt": "Why?", "chosen": "yes"}),
    ("missing value", GOOD, {"prompt": None, "chosen": "yes", "rejected": "no"}),
    ("value of the wrong type", GOOD, {"prompt": "Why?", "chosen": "yes", "rejected": 5}),
    ("value of the wrong type", GOOD_CHAT, {"chosen": ["yes"], "rejected": ["no"]}),
    ("value of the wrong type", GOOD_CHAT, {"chosen": [], "rejected": []}),
    ("text and message lists mixed", GOOD, GOOD_CHAT | {"prompt": "Why?"}),
    ("text and message lists mixed", GOOD_CHAT, GOOD_HH),
    ("lone surrogate in a text", GOOD, {"prompt": "Why \ud800?", "chosen": "yes", "rejected": "no"}),
    ("lone surrogate in a text", GOOD, {"prompt": "Why?", "chosen": "yes", "rejected": "no\udfff"}),
    ("empty prompt", GOOD, {"prompt": " \n", "chosen": "yes", "rejected": "no"}),
    ("empty prompt", GOOD_CHAT, both()),
    ("empty prompt", GOOD_CHAT, both(("system", "Be brief."))),
    ("not a dialogue", GOOD_HH, {"chosen": "yes", "rejected": "no"}),
    ("unknown role", GOOD_CHAT, both(("tool", "x"))),
    ("roles out of order", GOOD_CHAT, both(("user", "a"), ("user", "b"))),
    ("roles out of order", GOOD_CHAT, both(("user", "a"), ("system", "b"), ("user", "c"))),
    ("roles out of order", GOOD_CHAT, both(("user", "a"), ("assistant", "b"))),
    ("no final assistant turn", GOOD_CHAT, {s: [{"role": "user", "content": s}] for s in ("chosen", "rejected")}),
    ("number missing or not finite", GOOD_GROUP, {"prompt": "Why?", "responses": ["a", "b"], "scores": [1, None]}),
    ("number missing or not finite", GOOD_GROUP, b'{"prompt": "Why?", "responses": ["a", "b"], "scores": [1, NaN]}\n'),
    (
        "number missing or not finite",
        {"prompt": "Name a colour.", "responses": ["Red.", "Mud."], "win_rates": [1, 0]},
        {"prompt": "Why?", "responses": ["a", "b"], "win_rates": [0.5, 1.5]},
    ),
    ("as many numbers as responses needed", GOOD_GROUP, {"prompt": "Why?", "responses": ["a", "b"], "scores": [1]}),
    ("label is not true or false", GOOD_LABEL, {"prompt": "Why?", "completion": "yes", "label": 2}),
    (
        "duplicate id",
        GOOD | {"prompt_id": "p"},
        {"prompt_id": "p", "prompt": "Why?", "chosen": "yes", "rejected": "no"},
    ),
    ("duplicate id", GOOD | {"id": 1}, {"id": "1", "prompt": "Why?", "chosen": "yes", "rejected": "no"}),
]
CONTENT = [
    ("empty response", GOOD, {"prompt": "Why?", "chosen": "yes", "rejected": " \n"}),
    ("empty response", GOOD_HH, {"chosen": "\n\nHuman: a\n\nAssistant:", "rejected": "\n\nHuman: a\n\nAssistant: b"}),
    ("identical responses", GOOD, {"prompt": "Why?", "chosen": "yes", "rejected": "yes"}),
    ("identical responses", GOOD_GROUP, {"prompt": "Why?", "responses": ["a", "a"], "scores": [1, 0]}),
    ("all responses score the same", GOOD_GROUP, {"prompt": "Why?", "responses": ["a", "b"], "scores": [1, 1.0]}),
    ("fewer than two responses", GOOD_GROUP, {"prompt": "Why?", "responses": ["a"], "scores": [1]}),
    ("duplicate row", GOOD, GOOD),
    (
        "chosen and rejected answer different prompts",
        GOOD_HH,
        GOOD_HH | {"chosen": "\n\nHuman: Name a city.\n\nAssistant: Rome."},
    ),
    (
        "chosen and rejected answer different prompts",
        GOOD_HH,
        GOOD_HH | {"rejected": GOOD_HH["rejected"] + "\n\nHuman: And?\n\nAssistant: Grey."},
    ),
    (
        "prompt column differs from the dialogue",
        GOOD_CHAT | {"prompt": "Name a colour."},
        GOOD_CHAT | {"prompt": "Why?"},
    ),
    (
        "dialogue turns out of order",
        GOOD_HH,
        {side: f"\n\nHuman: a\n\nHuman: b\n\nAssistant: {side}" for side in ("chosen", "rejected")},
    ),
]


@pytest.mark.parametrize(("reason", "good", "bad"), STRUCTURAL)
def test_strict_reading_refuses_a_structural_fault_and_says_where(tmp_path, reason, good, bad):
    path = lines(tmp_path / "data.jsonl", good, bad)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert f"{reason}: 1 (line 2" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("reason", "good", "bad"), STRUCTURAL + CONTENT)
def test_lenient_reading_leaves_the_row_out_and_counts_it(tmp_path, reason, good, bad):
    loaded = read_examples(lines(tmp_path / "data.jsonl", good, bad), strict=False)
    assert len(loaded.items) == 1
    assert [d.reason for d in loaded.dropped] == [reason]


@pytest.mark.parametrize(("reason", "good", "bad"), CONTENT)
def test_content_findings_are_left_out_even_where_strict(tmp_path, reason, good, bad):
    loaded = read_examples(lines(tmp_path / "data.jsonl", good, bad))
    assert (len(loaded.items), [d.reason for d in loaded.dropped]) == (1, [reason])


@pytest.mark.parametrize(("reason", "good", "bad"), STRUCTURAL + CONTENT)
def test_check_reports_what_reading_leaves_out(tmp_path, reason, good, bad):
    report = check_data(lines(tmp_path / "data.jsonl", good, bad))
    is_structural = (reason, good, bad) in STRUCTURAL
    (finding,) = [finding for finding in report.findings if finding.reason == reason]
    assert finding.severity == ("error" if is_structural else "warning")
    assert (finding.reason, finding.count, report.num_errors, report.num_rows) == (reason, 1, 1, 2)
    assert finding.examples[0].startswith("line 2")
    assert report.num_refused == is_structural


def test_many_faults_are_counted_by_reason_the_most_frequent_first(tmp_path):
    path = lines(tmp_path / "data.jsonl", GOOD, *[b"{\n"] * 5, GOOD | {"prompt": ""}, GOOD | {"chosen": "Blue."})
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert "invalid JSON: 5 (line 2: " in caught.value.message
    assert ", ...); empty prompt: 1 (line 7)" in caught.value.message


def test_wrong_columns_list_expected_and_found_and_the_nearest_name(tmp_path):
    path = lines(tmp_path / "data.jsonl", {"prompt": "Why?", "choosen": "yes", "rejected": "no", "meta": None})
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert "expected `chosen` + `rejected` [+ `prompt`]; or" in caught.value.message
    assert caught.value.message.endswith("found choosen, prompt, rejected, meta (always empty)")
    assert caught.value.hint == "did you mean `chosen`?"


def test_plain_text_pairs_without_a_prompt_are_refused(tmp_path):
    with pytest.raises(DataError, match="give the prompt in a column `prompt`"):
        read_examples(lines(tmp_path / "data.jsonl", {"chosen": "The sky is blue.", "rejected": "The sky is green."}))


@pytest.mark.parametrize("body", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, body):
    with pytest.raises(DataError, match="it is empty"):
        read_prompts(lines(tmp_path / "data.jsonl", body))


def test_data_without_one_usable_row_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no usable row; left out: identical responses: 1 \(line 1\)"):
        read_examples(lines(tmp_path / "data.jsonl", GOOD | {"rejected": "Red."}))


def test_a_cut_gzip_file_is_refused(tmp_path):
    body = gzip.compress(b"".join(b'{"prompt": "Number %d?"}\n' % n for n in range(1000)))
    with pytest.raises(DataError, match="damaged or cut off"):
        read_prompts(lines(tmp_path / "data.jsonl.gz", body[: len(body) // 2]))


def test_a_json_array_with_a_fault_is_refused_with_line_and_column(tmp_path):
    with pytest.raises(DataError, match=r"data\.json: line 2 column 1"):
        read_prompts(lines(tmp_path / "data.json", b'[{"prompt": "a"}\n{"prompt": "b"}]'))


def test_what_is_no_parquet_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="is it a complete parquet file"):
        read_prompts(lines(tmp_path / "data.parquet", b"PAR1 but not really"))


def test_line_ends_of_unicode_do_not_split_rows(tmp_path):
    text = "a\u2028b\u2029c\x85d\x0be\x1cf"
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps({"prompt": text}, ensure_ascii=False).encode() + b"\n")
    (prompt,) = read_prompts(path).items
    assert prompt.messages[0].content == text


def test_a_row_that_is_no_object_is_named_by_what_it_is(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('[1, "x", [2]]')
    with pytest.raises(DataError) as caught:
        read_examples(path)
    for what in ("it is a number", "it is text", "it is a list"):
        assert what in str(caught.value)
