"""The pair model: what it reads, that neighbours do not matter, that folders keep it, and what it refuses."""

import json

import numpy as np
import pytest
import torch

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.batching import length_batches, pad_right
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.pair_encoding import PairEncoder
from fairplay.oracles.pair_model import PairModel
from fairplay.oracles.pair_oracle import PairOracle
from fairplay.oracles.table import build_oracle
from fairplay.records import Message, Prompt
from models.tiny import make_tokenizer
from oracles.tiny import group_of, make_groups, make_pair_model, save_pair_model

PROMPT = Prompt("p", (Message("user", "what is the red cat?"),))


def as_oracle(model: PairModel, *, max_length: int = 96, max_tokens: int = 512) -> PairOracle:
    settings = PairModelSettings(model="memory")
    reader = model.eval().encoder(max_length)
    return PairOracle(reader, model, settings, name="pair_model:test", temperature=1.0, max_tokens=max_tokens)


def encoder(max_length: int = 96) -> PairEncoder:
    return PairEncoder(make_tokenizer("starter"), max_length=max_length)


def test_a_row_is_prompt_first_text_end_second_text_end():
    tokenizer, reader = make_tokenizer("starter"), encoder()
    encoded = reader.encode(PROMPT, ["red", "green cat"])
    row = reader.row(encoded, 1, 0)
    assert tokenizer.decode(row.ids) == "<|user|>what is the red cat?<|end|><|assistant|>green cat<|end|>red<|end|>"
    assert tokenizer.decode(row.ids[slice(*row.first)]) == "green cat<|end|>"
    assert tokenizer.decode(row.ids[slice(*row.second)]) == "red<|end|>"
    assert reader.row_length(encoded, 1, 0) == len(row.ids)


def test_control_tokens_written_in_a_response_are_plain_text():
    reader = encoder()
    encoded = reader.encode(PROMPT, ["red<|end|>", "<|assistant|>"])
    assert reader.separator_id not in encoded.text_ids[0]
    assert reader.tokenizer.decode(encoded.text_ids[0]) == "red<|end|>"


def test_a_text_is_cut_by_its_prompt_alone_and_flagged():
    reader = encoder(max_length=48)
    long = "green cat " * 40
    beside_short, beside_long = reader.encode(PROMPT, ["red", long]), reader.encode(PROMPT, [long, long + "red"])
    assert beside_short.text_ids[1] == beside_long.text_ids[0]
    assert (beside_short.truncated, beside_long.truncated) == ((False, True), (True, True))
    assert reader.row_length(beside_long, 0, 1) <= 48


def test_a_prompt_that_is_too_long_keeps_its_end_and_flags_every_response():
    reader = encoder(max_length=32)
    encoded = reader.encode(Prompt("p", (Message("user", "what is " * 40 + "the seven?"),)), ["red", "cat"])
    assert reader.tokenizer.decode(encoded.prompt_ids).endswith("seven?<|end|><|assistant|>")
    assert len(encoded.prompt_ids) == 15
    assert encoded.truncated == (True, True)


def test_a_prompt_that_the_template_refuses_is_named():
    reader = PairEncoder(make_tokenizer("gemma"), max_length=96)
    with pytest.raises(DataError, match="prompt p9: the chat template refuses"):
        reader.encode(Prompt("p9", (Message("system", "a"), Message("user", "b"))), ["red"])


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2"])
def test_a_logit_does_not_depend_on_the_batch(family):
    model = make_pair_model(family=family)
    groups = make_groups(8, most_words=12)
    one_by_one = as_oracle(model, max_tokens=1).pair_logits(groups)
    together = as_oracle(model, max_tokens=100_000).pair_logits(groups[::-1])[::-1]
    for alone, batched in zip(one_by_one, together, strict=True):
        np.testing.assert_allclose(alone.pair_logits, batched.pair_logits, atol=1e-5, rtol=0)


def test_both_presentation_orders_are_read():
    (judged,) = as_oracle(make_pair_model()).pair_logits([group_of("red", "green cat")])
    table = np.asarray(judged.pair_logits)
    assert table[0, 1] != -table[1, 0]


def test_equal_texts_cost_no_forward_pass():
    model = make_pair_model()
    seen = []
    model.body.register_forward_pre_hook(lambda *inputs: seen.append(inputs[2]["input_ids"].shape[0]), with_kwargs=True)
    as_oracle(model).pair_logits([group_of("red", "cat", "red", "cat", "red"), group_of("red", "red")])
    assert sum(seen) == 2


def test_a_folder_keeps_the_model_and_its_temperature(tmp_path):
    folder = save_pair_model(tmp_path / "pair", temperature=1.5)
    groups = make_groups(3)
    oracle = build_oracle(PairModelSettings(model=str(folder), temperature=2.0))
    assert oracle.temperature == 3.0
    expected = as_oracle(make_pair_model()).pair_logits(groups)
    for loaded, kept in zip(oracle.pair_logits(groups), expected, strict=True):
        np.testing.assert_allclose(loaded.pair_logits, kept.pair_logits, atol=1e-6)


def test_the_name_is_the_same_wherever_the_folder_lies_and_differs_between_models(tmp_path):
    names = []
    for place, temperature in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / place).mkdir()
        folder = save_pair_model(tmp_path / place / "pair", temperature=temperature)
        names.append(build_oracle(PairModelSettings(model=str(folder))).name)
    assert names[0] == names[1] != names[2]


def test_a_model_reads_no_more_than_it_was_trained_to(tmp_path):
    folder = save_pair_model(tmp_path / "pair", max_length=40)
    oracle = build_oracle(PairModelSettings(model=str(folder), max_length=1024))
    (judged,) = oracle.pair_logits([group_of("red", "green cat " * 30)])
    assert judged.truncated == (False, True)


def test_logits_that_are_no_numbers_are_refused_naming_the_prompt():
    model = make_pair_model()
    model.head[2].bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p: the pair logit of responses 0 and 1 is nan"):
        as_oracle(model).pair_logits([group_of("red", "cat")])


def test_what_is_no_pair_model_is_refused(tmp_path):
    def build(folder):
        return build_oracle(PairModelSettings(model=str(folder)))

    with pytest.raises(SettingsError, match="there is no folder"):
        build(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no pair model"):
        build(tmp_path / "empty")
    folder = save_pair_model(tmp_path / "pair")
    (folder / "pair_model.json").write_text(json.dumps({"temperature": "warm"}))
    with pytest.raises(DataError, match=r"pair_model\.json can't be read"):
        build(folder)
    damaged = save_pair_model(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match="no pair model could be loaded"):
        build(damaged)


def test_batches_hold_every_row_once_and_keep_to_the_budget():
    lengths = [5, 1, 9, 3, 3, 7, 2, 30]
    batches = length_batches(lengths, max_tokens=12)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 12 for batch in batches[:-1])
    assert batches == [[1, 6, 3, 4], [0], [5], [2], [7]]
    assert length_batches([], max_tokens=12) == []


def test_padding_stands_on_the_right_behind_the_mask():
    ids, mask = pad_right([(4, 5, 6), (7,)], pad_id=9, device=torch.device("cpu"))
    assert (ids.tolist(), mask.tolist()) == ([[4, 5, 6], [7, 9, 9]], [[1, 1, 1], [1, 0, 0]])
