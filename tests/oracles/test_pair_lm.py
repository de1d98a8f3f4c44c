"""The pair-preference language model: RLHFlow's question, token for token, and the log-odds of its two answers."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.kinds.pair_lm import PairLmSettings
from fairplay.oracles.lm_encoding import QuestionEncoder
from fairplay.oracles.table import build_oracle
from fairplay.preferences.win_matrix import win_matrix
from fairplay.records import Message, Prompt, ResponseGroup
from models.tiny import make_tokenizer
from oracles.tiny import group_of, make_groups, save_pair_lm

# as on the model card of RLHFlow/pair-preference-model-LLaMA3-8B
PLAIN = (
    "\n{% for message in messages %}{% if loop.index0 % 2 == 0 %}\n\n<turn> user\n {{ message['content'] }}{% else %}"
    "\n\n<turn> assistant\n {{ message['content'] }}{% endif %}{% endfor %}\n\n\n"
)
CARD = "[CONTEXT] {context} [RESPONSE A] {response_A} [RESPONSE B] {response_B} \n"
TURNS = (Message("user", "what is red?"), Message("assistant", "the cat"), Message("user", "and green?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pair_lm(tmp_path_factory.mktemp("lm") / "lm")


def card_ids(tokenizer, messages, first, second):
    chat = [{"role": message.role, "content": message.content} for message in messages]
    context = tokenizer.apply_chat_template(chat, chat_template=PLAIN, tokenize=False)
    question = CARD.format(context=context, response_A=first, response_B=second)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer(text.replace(tokenizer.bos_token, ""), add_special_tokens=False)["input_ids"]


def card_logit(folder, messages, first, second):
    """Logit(A) - logit(B) by the procedure of the model card, one row at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([card_ids(tokenizer, messages, first, second)])).logits[0, -1]
    a, b = (tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in "AB")
    return float(logits[a] - logits[b])


def test_logits_are_those_of_the_model_card(folder):
    group = ResponseGroup(Prompt("p", TURNS), group_of("green cat", " two\n\nhorses {}", "seven").responses)
    (judged,) = build_oracle(PairLmSettings(model=str(folder))).pair_logits([group])
    for i, one in enumerate(group.responses):
        for j, other in enumerate(group.responses):
            expected = 0.0 if i == j else card_logit(folder, TURNS, one.text, other.text)
            assert judged.pair_logits[i][j] == pytest.approx(expected, abs=1e-5)
    bias = np.asarray(judged.pair_logits) + np.asarray(judged.pair_logits).T
    assert np.abs(bias).max() > 1e-3  # both orders were read: a language model favours a place


def test_a_family_that_bounds_its_logits_is_read_as_it_is(tmp_path):
    folder = save_pair_lm(tmp_path / "gemma", style="gemma", family="gemma2")
    group = group_of("green cat", "two")
    (judged,) = build_oracle(PairLmSettings(model=str(folder), max_length=96)).pair_logits([group])
    assert judged.pair_logits[0][1] == pytest.approx(
        card_logit(folder, group.prompt.messages, "green cat", "two"), abs=1e-5
    )


def test_what_is_too_long_is_cut_for_each_sample_alone_and_flagged():
    tokenizer = make_tokenizer("llama3")
    encoder = QuestionEncoder(tokenizer, max_length=120)
    long = " ".join(["red cat"] * 60)
    encoded = encoder.encode(Prompt("p", (Message("user", "what is red?"),)), ["green", long])
    assert (encoded.prompt_truncated, encoded.text_truncated) == (False, (False, True))
    assert long.startswith(encoded.texts[1])
    assert encoded.texts[0] == "green"
    assert len(encoder.row(encoded, 0, 1)) <= 120
    assert encoder.row(encoded, 0, 1) == tuple(
        card_ids(tokenizer, (Message("user", "what is red?"),), "green", encoded.texts[1])
    )
    cut = encoder.encode(Prompt("p", (Message("user", long + " the end"),)), ["green", "two"])
    assert cut.prompt_truncated
    assert cut.context.rstrip().endswith("the end")
    assert cut.text_truncated == (False, False)
    assert len(encoder.row(cut, 0, 1)) <= 120


def test_control_tokens_in_a_response_are_text(folder):
    encoder = QuestionEncoder(make_tokenizer("llama3"), max_length=512)
    encoded = encoder.encode(group_of("x").prompt, ["a<|eot_id|>b", "[RESPONSE B] c"])
    row = encoder.row(encoded, 0, 1)
    assert row.count(encoder.tokenizer.convert_tokens_to_ids("<|eot_id|>")) == 1
    groups = [group_of("a<|eot_id|>b", "c")]
    assert build_oracle(PairLmSettings(model=str(folder))).pair_logits(groups)[0].pair_logits[0][1] != 0


def test_a_system_message_opens_the_first_turn():
    encoder = QuestionEncoder(make_tokenizer("llama3"), max_length=512)
    encoded = encoder.encode(Prompt("p", (Message("system", "be brief"), *TURNS)), ["a"])
    assert encoded.context.count("<turn> user") == 2
    assert "be brief\n\nwhat is red?" in encoded.context


def test_turns_out_of_order_are_refused_naming_the_prompt(folder):
    oracle = build_oracle(PairLmSettings(model=str(folder)))
    group = ResponseGroup(Prompt("p7", (Message("user", "a"), Message("user", "b"))), group_of("x", "y").responses)
    with pytest.raises(DataError, match="prompt p7: a pair-preference language model can't read turns of user, user"):
        oracle.pair_logits([group])


def test_no_room_is_a_fault_of_the_settings():
    with pytest.raises(SettingsError, match="leaves no room"):
        QuestionEncoder(make_tokenizer("llama3"), max_length=40).encode(group_of("x").prompt, ["a"])


def test_one_order_reads_each_pair_once_and_a_cut_row_costs_no_more(folder):
    groups = make_groups(3)
    both = build_oracle(PairLmSettings(model=str(folder))).pair_logits(groups)
    one = build_oracle(PairLmSettings(model=str(folder), orders="one")).pair_logits(groups)
    for whole, half in zip(both, one, strict=True):
        read = [(i, j) for i, row in enumerate(half.pair_logits) for j, v in enumerate(row) if v is not None and i != j]
        assert len(read) == len(whole.pair_logits) * (len(whole.pair_logits) - 1) // 2
        np.testing.assert_allclose(
            [half.pair_logits[i][j] for i, j in read], [whole.pair_logits[i][j] for i, j in read], atol=1e-5
        )


def test_a_temperature_beside_the_weights_counts(tmp_path):
    folder = save_pair_lm(tmp_path / "lm")
    (folder / "oracle.json").write_text('{"temperature": 2.0}')
    assert build_oracle(PairLmSettings(model=str(folder), temperature=1.5)).temperature == 3.0


def test_logits_that_are_no_numbers_are_refused_naming_the_prompt(folder):
    oracle = build_oracle(PairLmSettings(model=str(folder)))
    with torch.no_grad():
        oracle.logits_of.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p: the pair logit of responses 0 and 1 is nan"):
        oracle.pair_logits([group_of("a", "b")])


def test_probabilities_complement_each_other(folder):
    for judged in build_oracle(PairLmSettings(model=str(folder))).pair_logits(make_groups(3)):
        probs = win_matrix(np.asarray(judged.pair_logits))
        np.testing.assert_allclose(probs + probs.T, 1.0, atol=1e-12)
