"""The tokenizer: reads every byte, one token a common word, control tokens only from the template."""

import pytest

from fairplay.starter.corpus import write_corpus
from fairplay.starter.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for e in write_corpus(3_000, seed=0) for text in (e.prompt.messages[0].content, e.responses[0].text)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_tokenizer(texts, 1024)


def test_the_same_texts_give_the_same_file(texts, tokenizer):
    assert train_tokenizer(texts, 1024).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize("text", ["", "The fox is red.", "é漢字 \n\t 🦊 \x00", "a  b   c "])
def test_any_text_survives_the_round_trip(tokenizer, text: str):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_words_of_the_world_are_one_token(tokenizer):
    for word in (" fox", " desert", " opposite", "desert", " window", " 17"):
        assert len(tokenizer(word)["input_ids"]) == 1


def test_a_chat_of_many_turns_is_rendered_by_the_template(tokenizer):
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "Hm"},
    ]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Ho<|end|><|user|>Hm<|end|><|assistant|>"
    )
    ids = tokenizer(rendered, add_special_tokens=True)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 4
    assert tokenizer.bos_token_id is None


def test_a_small_vocabulary_is_kept_to(texts):
    assert len(train_tokenizer(texts, 300)) == 300


def test_it_fits_any_texts():
    assert len(train_tokenizer(["xyzzy xyzzy xyzzy"], 2048)) < 300
