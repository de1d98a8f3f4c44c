"""Every format that users bring becomes the same records, with ids that do not depend on where a row stands."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairplay.data.reading import read_examples, read_prompts, read_responses
from fairplay.errors import DataError
from fairplay.records import Message, Response, TrainingExample

USER = Message("user", "Name a colour.")
SYSTEM = Message("system", "Be brief.")


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


ASKED = chat(("user", "Name a colour."))
RED, MUD = chat(("assistant", "Red.")), chat(("assistant", "Mud."))


def lines(path: Path, *rows) -> str:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def one(tmp_path: Path, row) -> TrainingExample:
    (example,) = read_examples(lines(tmp_path / "data.jsonl", row)).items
    return example


def texts(example) -> list[str]:
    return [response.text for response in example.responses]


PAIRS = {
    "text": {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Mud."},
    "messages": {"prompt": ASKED, "chosen": RED, "rejected": MUD},
    "prompt as text": {"prompt": "Name a colour.", "chosen": RED, "rejected": MUD},
    "responses as text": {"prompt": ASKED, "chosen": "Red.", "rejected": "Mud."},
    "implicit prompt": {"chosen": ASKED + RED, "rejected": ASKED + MUD},
    "prompt twice": {"prompt": "Name a colour.", "chosen": ASKED + RED, "rejected": ASKED + MUD},
    "prompt messages twice": {"prompt": ASKED, "chosen": ASKED + RED, "rejected": ASKED + MUD},
    "instruction": {"instruction": "Name a colour.", "chosen": "Red.", "rejected": "Mud."},
    "question, empty system": {"system": "", "question": "Name a colour.", "chosen": "Red.", "rejected": "Mud."},
    "ShareGPT": {
        "chosen": [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Red."}],
        "rejected": [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Mud."}],
    },
    "HH dialogue": {
        "chosen": "\n\nHuman: Name a colour.\n\nAssistant: Red.",
        "rejected": "\n\nHuman: Name a colour.\n\nAssistant: Mud.",
    },
    "HH prompt": {
        "prompt": "\n\nHuman: Name a colour.\n\nAssistant:",
        "chosen": " Red.",
        "rejected": " Mud.",
    },
    "rejected_response": {"messages": ASKED + RED, "rejected_response": "Mud."},
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_form_of_a_pair_gives_the_same_example(tmp_path, name):
    example = one(tmp_path, PAIRS[name])
    assert example == one(tmp_path, PAIRS["text"])
    assert (example.prompt.messages, texts(example), example.pairs) == ((USER,), ["Red.", "Mud."], ((0, 1),))


@pytest.mark.parametrize("name", PAIRS)
def test_prompts_can_be_read_from_every_form_of_a_pair(tmp_path, name):
    (prompt,) = read_prompts(lines(tmp_path / "pairs.jsonl", PAIRS[name])).items
    assert prompt.messages == (USER,)


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "prompt": "Name a colour.", "chosen": "Red.", "rejected": "Mud."},
        {"system_prompt": "Be brief.", "chosen": ASKED + RED, "rejected": ASKED + MUD},
        {
            "system": "Be brief.",
            "chosen": chat(("system", "Be brief.")) + ASKED + RED,
            "rejected": chat(("system", "Be brief.")) + ASKED + MUD,
        },
    ],
)
def test_a_system_column_becomes_the_first_turn_once(tmp_path, row):
    assert one(tmp_path, row).prompt.messages == (SYSTEM, USER)


def test_scores_and_win_rates_of_pairs_are_kept(tmp_path):
    scored = one(tmp_path, PAIRS["text"] | {"score_chosen": 8, "score_rejected": 2.5})
    rated = one(tmp_path, PAIRS["text"] | {"chosen_probs_win": 0.75, "chosen_probs_lose": 0.25})
    assert (scored.scores, scored.win_rates) == ((8.0, 2.5), ())
    assert (rated.scores, rated.win_rates) == ((), (0.75, 0.25))


def test_the_last_assistant_turn_of_messages_is_the_response(tmp_path):
    turns = chat(("user", "Hello"), ("assistant", "Hi.")) + ASKED + RED
    example = one(tmp_path, {"messages": turns})
    assert example.prompt.messages == (Message("user", "Hello"), Message("assistant", "Hi."), USER)
    assert (texts(example), example.pairs, example.labels) == (["Red."], (), ())


@pytest.mark.parametrize("label", [True, False, 1, 0])
@pytest.mark.parametrize("completion", ["Red.", RED])
def test_an_unpaired_row_keeps_its_label(tmp_path, completion, label):
    example = one(tmp_path, {"prompt": "Name a colour.", "completion": completion, "label": label})
    assert (texts(example), example.labels, example.pairs) == (["Red."], (bool(label),), ())


def test_alpaca_input_goes_below_the_instruction(tmp_path):
    example = one(tmp_path, {"instruction": "Translate.", "input": "rouge", "output": "red"})
    assert example.prompt.messages == (Message("user", "Translate.\nrouge"),)


GROUPS = {
    "scores": {"responses": ["Red.", "Mud.", "Blue."], "scores": [0.5, -1, 2]},
    "all_rm_scores": {"all_generated_responses": ["Red.", "Mud.", "Blue."], "all_rm_scores": [0.5, -1, 2]},
    "UltraFeedback": {
        "completions": [
            {"response": "Red.", "overall_score": 0.5, "model": "a"},
            {"response": "Mud.", "overall_score": "-1"},
            {"response": "Blue.", "overall_score": 2},
        ]
    },
    "messages": {"responses": [RED, MUD, ASKED + chat(("assistant", "Blue."))], "scores": [0.5, -1, 2]},
}


@pytest.mark.parametrize("name", GROUPS)
def test_k_responses_with_scores_name_best_and_worst(tmp_path, name):
    example = one(tmp_path, {"prompt": "Name a colour."} | GROUPS[name])
    assert (texts(example), example.scores) == (["Red.", "Mud.", "Blue."], (0.5, -1.0, 2.0))
    assert example.pairs == ((2, 1),)


def test_ranks_count_from_the_best(tmp_path):
    items = [{"rank": 1, "completion": MUD}, {"rank": 0, "completion": RED}]
    example = one(tmp_path, {"context": ASKED, "completions": items})
    assert (texts(example), example.pairs) == (["Mud.", "Red."], ((1, 0),))


@pytest.mark.parametrize("column", ["win_rates", "probabilities"])
def test_k_responses_with_win_rates_keep_them(tmp_path, column):
    example = one(tmp_path, {"prompt": "Name a colour.", "responses": ["Red.", "Mud."], column: [0.9, 0.1]})
    assert (example.win_rates, example.scores, example.pairs) == ((0.9, 0.1), (), ((0, 1),))


def test_the_format_is_told_with_the_columns_that_are_not_read(tmp_path):
    row = PAIRS["HH dialogue"] | {"source": "x", "score_chosen": 2, "score_rejected": 1, "margin": None}
    told = read_examples(lines(tmp_path / "data.jsonl", row)).format
    assert told == (
        "preference pairs with the prompt inside: `chosen` (HH-RLHF dialogue), `rejected` (HH-RLHF dialogue)"
        " and `score_chosen`, `score_rejected`; not read: `margin`, `source`"
    )


def test_the_same_data_in_every_file_format_has_the_same_items_and_hash(tmp_path):
    rows = [PAIRS["messages"] | {"prompt": chat(("user", f"Number {n}? \u2028 é \0"))} for n in range(5)]
    body = b"\r\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + body)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(body))
    (tmp_path / "c.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "d.json").write_bytes(body)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    loaded = [read_examples(path) for path in sorted(tmp_path.iterdir())]
    assert len(loaded) == 6
    assert len({each.items for each in loaded}) == len({each.sha256 for each in loaded}) == 1
    assert loaded[0].items[3].prompt.messages[0].content == "Number 3? \u2028 é \0"


def test_ids_do_not_depend_on_the_order_of_rows_and_duplicates_are_left_out(tmp_path):
    rows = [{"prompt": f"Number {n % 7}?", "chosen": "yes", "rejected": "no"} for n in range(8)]
    first = read_examples(lines(tmp_path / "a.jsonl", *rows))
    random.Random(0).shuffle(rows)
    second = read_examples(lines(tmp_path / "b.jsonl", *rows))
    assert {item.id for item in first.items} == {item.id for item in second.items}
    assert len(first.items) == 7
    assert first.dropped == second.dropped
    assert [(d.id, d.reason) for d in first.dropped] == [(first.items[0].id + "#2", "duplicate row")]


def test_examples_of_one_prompt_share_the_prompt_id(tmp_path):
    rows = [{"prompt": "Name a colour.", "chosen": text, "rejected": "Mud."} for text in ("Red.", "Blue.")]
    a, b = read_examples(lines(tmp_path / "data.jsonl", *rows)).items
    assert a.id != b.id
    assert a.prompt == b.prompt


def test_ids_of_the_data_are_kept(tmp_path):
    row = PAIRS["text"]
    source = lines(tmp_path / "a.jsonl", row | {"id": 0, "prompt_id": "p"}, row | {"id": 7, "chosen": "Blue."})
    a, b = read_examples(source).items
    assert (a.id, a.prompt.id, b.id) == ("0", "p", "7")
    (prompt,) = read_prompts(lines(tmp_path / "b.jsonl", {"prompt_id": "x", "question": "Why?"})).items
    assert prompt.id == "x"


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path):
    lines(tmp_path / "b.jsonl", {"prompt": "second"})
    lines(tmp_path / "a.jsonl", {"prompt": "first"})
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "README.md").write_text("# nothing")
    assert [p.messages[0].content for p in read_prompts(tmp_path).items] == ["first", "second"]


def test_a_large_file_is_read_with_every_row(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_bytes(b"".join(b'{"prompt": "Number %d?"}\n' % n for n in range(20_000)))
    loaded = read_prompts(path)
    assert len({prompt.id for prompt in loaded.items}) == 20_000


def test_outputs_to_judge_keep_empty_ones_and_count_missing_ones(tmp_path):
    rows = [{"instruction": f"Say {n}", "model-a": text} for n, text in enumerate(["one", "", None, ["x", "y"]])]
    loaded = read_responses(lines(tmp_path / "outputs.jsonl", *rows), column="model-a")
    assert [g.responses for g in loaded.items] == [
        (Response("one"),),
        (Response(""),),
        (Response("x"), Response("y")),
    ]
    assert [d.reason for d in loaded.dropped] == ["no response"]


def test_alpaca_eval_outputs_and_prompts_meet_by_prompt_id(golden):
    source = golden / "alpaca_eval2" / "outputs_sample.parquet"
    prompts = read_prompts(source)
    assert len(prompts.items) == 805
    baseline = read_responses(source, column="gpt4_1106_preview")
    other = read_responses(source, column="text_davinci_001")
    assert [g.prompt for g in baseline.items] == list(prompts.items)
    assert (len(other.items), [d.reason for d in other.dropped]) == (803, ["no response"] * 2)
    with pytest.raises(DataError, match="and the column `gpt5` of responses; found FuseChat"):
        read_responses(source, column="gpt5")


def test_alpaca_eval_json_gives_prompts_and_supervised_examples(tmp_path):
    rows = [{"dataset": "d", "instruction": f"Say {n}", "output": f"{n}", "generator": "g"} for n in range(3)]
    path = tmp_path / "model_outputs.json"
    path.write_text(json.dumps(rows, indent=2))
    assert [p.messages[0].content for p in read_prompts(path).items] == ["Say 0", "Say 1", "Say 2"]
    assert [texts(example) for example in read_examples(path).items] == [["0"], ["1"], ["2"]]
    assert [g.responses[0].text for g in read_responses(path).items] == ["0", "1", "2"]


def test_prompts_of_conversations_end_with_the_last_user_turn(tmp_path):
    rows = [{"messages": ASKED}, {"messages": chat(("user", "And?")) + RED}]
    prompts = read_prompts(lines(tmp_path / "data.jsonl", *rows)).items
    assert [p.messages for p in prompts] == [(USER,), (Message("user", "And?"),)]
