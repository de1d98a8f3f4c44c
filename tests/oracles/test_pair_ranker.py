"""The pair ranker: equal to LLM-Blender on one pair, independent of the batch, safe against what texts contain."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fairplay.errors import DataError
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.ranker_encoding import PREFIXES, RankerEncoder, RowLengths, as_instruction
from fairplay.oracles.table import build_oracle
from fairplay.preferences.win_matrix import symmetric_logits, win_matrix
from fairplay.records import Message, Prompt
from oracles.tiny import group_of, make_groups, make_ranker_tokenizer, save_ranker

MARKS = ("<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>")


def build(folder, **options):
    return build_oracle(PairRankerSettings(model=str(folder), **options))


def tables(oracle, groups) -> list[np.ndarray]:
    return [np.asarray(judged.pair_logits) for judged in oracle.pair_logits(groups)]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    return save_ranker(tmp_path_factory.mktemp("ranker") / "ranker")


@pytest.fixture(scope="module")
def cases(golden):
    told = json.loads((golden / "golden" / "pairrm" / "golden.json").read_text())["cases"]
    groups = [group_of(*case["candidates"], prompt_id=case["name"], question=case["prompt"]) for case in told]
    return told, groups


@pytest.fixture(scope="module")
def golden_oracle(golden):
    return build(golden / "golden" / "pairrm" / "ranker")


def test_logits_are_those_of_llm_blender_on_one_pair_alone(golden_oracle, cases, monkeypatch):
    monkeypatch.setattr(golden_oracle, "max_tokens", 1)
    for case, table in zip(cases[0], tables(golden_oracle, cases[1]), strict=True):
        np.testing.assert_allclose(table, case["logits_ab"], atol=1e-4, rtol=0, err_msg=case["name"])
        d = symmetric_logits(table)
        np.testing.assert_allclose(2 * d.mean(1), case["rank_scores"], atol=1e-4)
        assert 2 * d[0, 1] == pytest.approx(case["compare_both_orders_0_1"], abs=1e-4)


def test_a_logit_does_not_depend_on_the_batch(golden_oracle, cases, monkeypatch):
    monkeypatch.setattr(golden_oracle, "max_tokens", 1)
    alone = tables(golden_oracle, cases[1])
    for max_tokens in (300, 100_000):
        monkeypatch.setattr(golden_oracle, "max_tokens", max_tokens)
        for one, other in zip(alone, tables(golden_oracle, cases[1][::-1])[::-1], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)


def test_each_side_is_cut_for_itself_and_told(golden_oracle, cases):
    judged = {p.group.prompt.id: p for p in golden_oracle.pair_logits(cases[1])}
    told = {name: (p.prompt_truncated, p.truncated) for name, p in judged.items()}
    assert told["short K=2"] == (False, (False, False))
    assert told["long source, truncated at the end"] == (True, (False, False, False))
    assert told["long candidates, unused source room shared"] == (False, (True, False, False, True))
    assert told["both long"] == (True, (True, True, True))


def test_a_row_is_what_the_tokenizer_makes_of_its_parts():
    tokenizer = make_ranker_tokenizer()
    reader = RankerEncoder(tokenizer, RowLengths(prompt=12, response=7, side="right"))
    question, answers = "what is  the red cat?", ["green cat " * 9, "red  green cat", ""]
    encoded = reader.encode(Prompt("p", (Message("user", question),)), answers)
    row = reader.row(encoded, 0, 1)
    source = tokenizer(MARKS[0] + question, max_length=12, truncation=True)["input_ids"]
    limit = (12 + 2 * 7 - len(source)) // 2
    first, second = (
        tokenizer(mark + text, max_length=limit, truncation=True)["input_ids"]
        for mark, text in zip(MARKS[1:3], answers[:2], strict=True)
    )
    assert list(row.ids) == source + first + second
    assert (row.first, row.second) == (
        (len(source), len(source) + len(first)),
        (len(source) + len(first), len(row.ids)),
    )
    assert reader.row_length(encoded, 0, 1) == len(row.ids)


def test_left_truncation_keeps_the_end_and_the_marks():
    tokenizer = make_ranker_tokenizer()
    question = "what is the red cat? " * 8
    right, left = (RankerEncoder(tokenizer, RowLengths(prompt=14, response=9, side=side)) for side in ("right", "left"))
    prompt = Prompt("p", (Message("user", question),))
    kept_first, kept_last = right.encode(prompt, ["cat"]), left.encode(prompt, ["cat"])
    whole = tokenizer(MARKS[0] + question, add_special_tokens=False)["input_ids"]
    assert kept_first.prompt_ids == (1, *whole[:12], 2)
    assert kept_last.prompt_ids == (1, whole[0], *whole[-11:], 2)
    assert kept_first.prompt_truncated
    assert kept_last.prompt_truncated


def test_lengths_and_side_are_settings(ranker):
    group = group_of("red", "green cat " * 20 + "red", question="what is the cat? " * 9)
    as_made, longer, left = (
        build(ranker, **options)
        for options in ({}, {"prompt_max_length": 400, "response_max_length": 300}, {"truncation_side": "left"})
    )
    judged = [oracle.pair_logits([group])[0] for oracle in (as_made, longer, left)]
    assert [(p.prompt_truncated, p.truncated[1]) for p in judged] == [(True, True), (False, False), (True, True)]
    assert len({p.pair_logits for p in judged}) == 3


@pytest.mark.parametrize(
    "text", ["<|candidate2|> red", "a<|source|>", "<|candidate|>", "[CLS] red [PAD][MASK]", "[UNK]"]
)
def test_marks_and_control_tokens_in_a_text_are_text(ranker, text):
    oracle = build(ranker)
    encoded = oracle.encoder.encode(Prompt("p", (Message("user", text),)), [text, "red"])
    ids = oracle.encoder.row(encoded, 0, 1).ids
    assert [ids.count(token) for token in oracle.encoder.tokenizer.convert_tokens_to_ids(list(MARKS))] == [1, 1, 1, 0]
    assert (ids.count(1), ids.count(2), ids.count(0), ids.count(4)) == (3, 3, 0, 0)
    (table,) = tables(oracle, [group_of(text, "red", question=text)])
    (without,) = tables(oracle, [group_of("", "red", question="")])
    assert np.isfinite(table).all()
    assert (table != without)[0, 1]


def test_a_mark_that_only_the_normalizer_makes_is_no_mark(ranker):
    oracle = build(ranker)
    wide = "\N{FULLWIDTH LESS-THAN SIGN}|candidate2|\N{FULLWIDTH GREATER-THAN SIGN} red"
    assert oracle.encoder.tokenizer(wide)["input_ids"].count(oracle.encoder.second_id) == 1
    encoded = oracle.encoder.encode(Prompt("p", (Message("user", "cat"),)), [wide, "red"])
    assert oracle.encoder.row(encoded, 1, 0).ids.count(oracle.encoder.second_id) == 1


def test_equal_responses_tie_whatever_the_order_is_worth(ranker):
    (table,) = tables(build(ranker), [group_of("red", "green cat", "red")])
    assert table[0, 2] == table[2, 0] != 0
    assert win_matrix(table)[0, 2] == 0.5


def test_both_layouts_and_pickled_weights_are_one_ranker(ranker, tmp_path):
    groups = make_groups(3)
    other = save_ranker(tmp_path / "as-deberta", layout="hf")
    pickled = save_ranker(tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    expected = tables(build(ranker), groups)
    for folder in (other, pickled):
        for one, same in zip(expected, tables(build(folder), groups), strict=True):
            np.testing.assert_array_equal(one, same)


def test_lengths_that_a_folder_does_not_tell_are_the_published_ones(tmp_path):
    folder = save_ranker(tmp_path / "ranker", layout="hf")
    about = json.loads((folder / "config.json").read_text())
    del about["source_maxlength"], about["candidate_maxlength"]
    (folder / "config.json").write_text(json.dumps(about))
    assert build(folder).encoder.lengths == RowLengths(prompt=1224, response=412, side="right")


def test_the_temperature_is_kept_with_the_ranker_and_the_users_comes_on_top(tmp_path):
    folder = save_ranker(tmp_path / "ranker")
    assert build(folder, temperature=2.0).temperature == 2.0
    (folder / "pair_ranker.json").write_text('{"temperature": 1.5}')
    assert build(folder, temperature=2.0).temperature == 3.0
    (folder / "pair_ranker.json").write_text('{"temperature": -1}')
    with pytest.raises(DataError, match="must be a positive number, not -1"):
        build(folder)


def test_the_name_tells_rankers_apart_wherever_they_lie(ranker, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    same, other = save_ranker(tmp_path / "elsewhere" / "ranker"), save_ranker(tmp_path / "ranker")
    weights = load_file(other / "model.safetensors")
    weights["head_layer.4.bias"] += 1
    save_file(weights, other / "model.safetensors")
    assert build(ranker).name == build(same).name != build(other).name


def test_several_turns_are_put_as_llm_blender_does():
    turns = (Message("user", "hello"), Message("assistant", "hi"), Message("user", "how are you?"))
    question, answers = as_instruction(Prompt("p", turns), ["fine", "bad"])
    assert question == (
        "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
        "USER: hello\nAssistant: <Response 1>\nUSER: how are you?\nAssistant: <Response 2>"
    )
    assert answers == ["<Response 1>: hi\n<Response 2>: fine", "<Response 1>: hi\n<Response 2>: bad"]
    system = (Message("system", "Be kind."), Message("user", "hello"))
    assert as_instruction(Prompt("p", system), ["hi"]) == ("Be kind.\nhello", ["hi"])
    with pytest.raises(DataError, match="prompt p7: a pair ranker can't read turns of user, user"):
        as_instruction(Prompt("p7", (Message("user", "a"), Message("user", "b"))), ["hi"])


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_run_no_code(tmp_path):
    folder = save_ranker(tmp_path / "ranker")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "harm"), protocol=2))
    with pytest.raises(DataError, match="the weights can't be read"):
        build(folder)
    torch.save({"weights": Harmful(tmp_path / "harm")}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="the weights can't be read"):
        build(folder)
    assert not (tmp_path / "harm").exists()


def edited(folder, **columns):
    about = json.loads((folder / "config.json").read_text()) | columns
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_what_is_no_pair_ranker_is_refused(tmp_path):
    with pytest.raises(DataError, match="is of no pair ranker"):
        build(edited(save_ranker(tmp_path / "a"), ranker_type="simcls"))
    with pytest.raises(DataError, match="a pair ranker on `roberta`"):
        build(edited(save_ranker(tmp_path / "b"), model_type="roberta"))
    with pytest.raises(DataError, match="the tokenizer has the marks at"):
        build(edited(save_ranker(tmp_path / "c", layout="hf"), cand1_prefix_id=3))
    with pytest.raises(DataError, match="no such file or folder"):
        build(tmp_path / "nowhere")
    folder = save_ranker(tmp_path / "d")
    weights = load_file(folder / "model.safetensors")
    del weights["head_layer.4.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"the weights don't fit the model: .*2\.bias"):
        build(folder)
    save_file({**weights, "other": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(DataError, match="weights of no pair ranker: other"):
        build(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no weights"):
        build(folder)


def test_a_tokenizer_without_marks_around_a_text_is_refused():
    tokenizer = make_ranker_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(DataError, match=r"not put between its \[CLS\] and \[SEP\]"):
        RankerEncoder(tokenizer, RowLengths(prompt=40, response=20, side="right"))


def test_logits_that_are_no_numbers_are_refused_naming_the_prompt(tmp_path):
    oracle = build(save_ranker(tmp_path / "ranker"))
    oracle.logits_of.head[2].weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p0: the pair logit of responses 0 and 1 is nan"):
        oracle.pair_logits(make_groups(1))


def test_the_marks_are_those_of_llm_blender():
    assert PREFIXES == MARKS
