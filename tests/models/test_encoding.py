"""Examples are encoded whole or dropped with a reason; ids that the policy sampled are never tokenised again."""

from dataclasses import replace

import pytest

from fairplay.errors import DataError
from fairplay.models.chat import ChatEncoder
from fairplay.models.encoding import encode_examples
from fairplay.records import Message, Prompt, Response, TrainingExample
from models.tiny import make_tokenizer

TOKENIZER = make_tokenizer("starter")
PROMPT = Prompt("p", (Message("user", "what is the red cat?"),))
LIMITS = {"max_length": 40, "max_prompt_length": 20}


def example(*responses, **changes):
    return replace(TrainingExample("e", PROMPT, tuple(responses)), **changes)


def test_text_is_rendered_and_the_prompt_is_shared():
    encoded = encode_examples(TOKENIZER, [example(Response("red"), Response("two cat"))], **LIMITS)
    (only,) = encoded.examples
    assert only.prompt_ids == ChatEncoder(TOKENIZER).prompt(PROMPT.messages)
    assert only.response_ids == tuple(
        ChatEncoder(TOKENIZER).response(PROMPT.messages, text)[1] for text in ("red", "two cat")
    )


def test_sampled_ids_are_taken_as_they_are():
    sampled = Response("red", token_ids=(90, 91, 92), finish_reason="length", seed=3)
    (only,) = encode_examples(TOKENIZER, [example(sampled, prompt_token_ids=(7, 8))], **LIMITS).examples
    assert only.prompt_ids == (7, 8)
    assert only.response_ids == ((90, 91, 92),)


def test_given_text_beside_sampled_ids_keeps_the_prompt_that_the_policy_read():
    mixed = example(Response("red", token_ids=(90, 2)), Response("two"), prompt_token_ids=(7, 8))
    (only,) = encode_examples(TOKENIZER, [mixed], **LIMITS).examples
    assert only.prompt_ids == (7, 8)
    assert only.response_ids[1] == ChatEncoder(TOKENIZER).response(PROMPT.messages, "two")[1]


def test_an_empty_response_is_its_end_of_turn_token():
    (only,) = encode_examples(TOKENIZER, [example(Response(""))], **LIMITS).examples
    assert only.response_ids == ((TOKENIZER.eos_token_id,),)


def test_what_is_too_long_is_dropped_whole_with_a_reason_and_never_cut():
    fits = example(Response("x", token_ids=(5,) * 20), prompt_token_ids=(4,) * 20, id="fits")
    long_prompt = example(Response("x", token_ids=(5,)), prompt_token_ids=(4,) * 21, id="prompt")
    long_response = example(
        Response("x", token_ids=(5,)), Response("x", token_ids=(5,) * 21), prompt_token_ids=(4,) * 20, id="response"
    )
    encoded = encode_examples(TOKENIZER, [long_prompt, fits, long_response], **LIMITS)
    assert [item.example.id for item in encoded.examples] == ["fits"]
    assert encoded.examples[0].response_ids == ((5,) * 20,)
    assert [(item.id, item.reason) for item in encoded.dropped] == [
        ("prompt", "prompt too long"),
        ("response", "prompt and response too long"),
    ]


def test_messages_that_the_template_refuses_are_dropped_and_counted():
    tokenizer = make_tokenizer("gemma")
    system = example(Response("red"), prompt=Prompt("s", (Message("system", "be kind"), *PROMPT.messages)), id="s")
    encoded = encode_examples(tokenizer, [system, example(Response("red"))], max_length=60, max_prompt_length=60)
    assert [item.example.id for item in encoded.examples] == ["e"]
    assert [(item.id, item.reason) for item in encoded.dropped] == [("s", "refused by the chat template")]


def test_an_unusable_template_stops_everything():
    tokenizer = make_tokenizer("chatml", template="{{ messages[0].content }}")
    with pytest.raises(DataError, match="does not show the response"):
        encode_examples(tokenizer, [example(Response("red"))], **LIMITS)
