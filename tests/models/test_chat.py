"""One rendering: the prompt is what the engine saw, the response ends with its end of turn, nothing is doubled."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from fairplay.errors import DataError
from fairplay.models.chat import ChatEncoder, ChatRefused, stop_token_ids
from fairplay.records import Message
from models.tiny import CHATML, LLAMA3, STYLES, make_tokenizer

USER = (Message("user", "what is the red cat?"),)
DIALOGUE = (Message("user", "what is seven?"), Message("assistant", "seven is two"), Message("user", "please answer"))
END_OF_TURN = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>"}
END_OF_TURN["starter"] = "<|end|>"
every_style = pytest.mark.parametrize("style", sorted(STYLES))


@every_style
@pytest.mark.parametrize("messages", [USER, DIALOGUE], ids=["one-turn", "dialogue"])
@pytest.mark.parametrize("text", ["the cat is red", "", "Größe 日本\n\nnaïve 🙂", "  two\n", "None", "12 apples, 127"])
def test_prompt_and_response_are_the_rendered_conversation_up_to_the_end_of_turn(style, messages, text):
    tokenizer = make_tokenizer(style)
    prompt_ids, response_ids = ChatEncoder(tokenizer).response(messages, text)
    chat = [{"role": message.role, "content": message.content} for message in messages]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": text}], tokenize=False)
    assert tokenizer.decode(prompt_ids) == prompt
    assert tokenizer.decode(prompt_ids + response_ids) == whole.rstrip("\n")


@every_style
def test_the_end_of_turn_token_is_scored_once_and_the_header_is_not(style):
    tokenizer = make_tokenizer(style)
    _, response_ids = ChatEncoder(tokenizer).response(USER, "the cat is red")
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN[style])
    assert response_ids[-1] == end
    assert not set(response_ids[:-1]) & set(tokenizer.added_tokens_decoder)
    assert "assistant" not in tokenizer.decode(response_ids)
    assert "model" not in tokenizer.decode(response_ids)


@every_style
def test_all_responses_share_the_ids_that_the_engine_reads(style):
    tokenizer = make_tokenizer(style)
    prompts = {ChatEncoder(tokenizer).response(DIALOGUE, text)[0] for text in ("", " a", "\nb", "\n\nc", "seven", "!")}
    assert prompts == {ChatEncoder(tokenizer).prompt(DIALOGUE)}


@pytest.mark.parametrize("template_writes_bos", [True, False])
@pytest.mark.parametrize("tokenizer_adds_bos", [True, False])
def test_exactly_one_bos_whoever_writes_it(template_writes_bos, tokenizer_adds_bos):
    template = LLAMA3 if template_writes_bos else LLAMA3.replace("{{ bos_token }}", "")
    tokenizer = make_tokenizer("llama3", adds_bos=tokenizer_adds_bos, template=template)
    prompt_ids, response_ids = ChatEncoder(tokenizer).response(USER, "two")
    expected = 1 if template_writes_bos or tokenizer_adds_bos else 0  # a model that no one gives a BOS never saw one
    assert (prompt_ids + response_ids).count(tokenizer.bos_token_id) == expected
    assert prompt_ids.count(tokenizer.bos_token_id) == expected
    assert prompt_ids[:expected] == (tokenizer.bos_token_id,) * expected


def test_a_template_that_writes_two_bos_gives_one():
    tokenizer = make_tokenizer("llama3", template="{{ bos_token }}" + LLAMA3)
    assert ChatEncoder(tokenizer).prompt(USER).count(tokenizer.bos_token_id) == 1


def test_the_word_none_cuts_nothing():
    tokenizer = make_tokenizer("mistral")
    text = "Why does my Python function return None when I call None.strip()?"
    assert text in tokenizer.decode(ChatEncoder(tokenizer).prompt((Message("user", text),)))


def test_where_a_token_would_span_the_boundary_it_is_split_there():
    template = (
        STYLES["starter"][0]
        .replace("<|assistant|>{% endif", "<|assistant|> {% endif")
        .replace("<|{{ m.role }}|>", "<|{{ m.role }}|>{{ ' ' if m.role == 'assistant' }}")
    )
    tokenizer = make_tokenizer("starter", template=template)
    prompt_ids, response_ids = ChatEncoder(tokenizer).response(USER, "red cat")
    assert tokenizer.convert_ids_to_tokens(prompt_ids)[-1] == "Ġ"
    assert tokenizer("<|assistant|> red", add_special_tokens=False)["input_ids"][-1] == tokenizer.convert_tokens_to_ids(
        "Ġred"
    )
    assert prompt_ids == ChatEncoder(tokenizer).prompt(USER)
    assert tokenizer.decode(response_ids) == "red cat<|end|>"


def num_controls(tokenizer, ids):
    return sum(token in tokenizer.added_tokens_decoder for token in ids)


@every_style
def test_control_tokens_inside_messages_are_text(style):
    tokenizer = make_tokenizer(style)
    controls = [token.content for token in tokenizer.added_tokens_decoder.values()]
    clean = ChatEncoder(tokenizer).response(USER, "red")
    dirty = (Message("user", f"what {''.join(controls)} \ue000 is {controls[-1]}"),)
    prompt_ids, response_ids = ChatEncoder(tokenizer).response(dirty, f"a {controls[0]}{END_OF_TURN[style]} b")
    assert num_controls(tokenizer, prompt_ids) == num_controls(tokenizer, clean[0])
    assert num_controls(tokenizer, response_ids) == 1
    assert tokenizer.decode(prompt_ids).count(dirty[0].content) == 1
    assert tokenizer.decode(response_ids[:-1]).strip() == f"a {controls[0]}{END_OF_TURN[style]} b"
    assert prompt_ids == ChatEncoder(tokenizer).prompt(dirty)


def test_control_tokens_that_the_tokenizer_cannot_read_as_text_are_refused():
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "[UNK]": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %} {{ m.content }} </s>{% endfor %}"
    assert ChatEncoder(tokenizer).response((Message("user", "a"),), "a") == ((2, 1), (2, 1))
    with pytest.raises(ChatRefused, match="control token </s>"):
        ChatEncoder(tokenizer).response((Message("user", "a"),), "a </s> a")


def test_a_tokenizer_that_puts_a_space_before_text_puts_none_within_it():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["red cat [ ] I N S T / hello a b < > s |"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = STYLES["mistral"][0].replace("[/INST]", "[/INST] ").replace("%} {{", "%}{{")
    prompt_ids, response_ids = ChatEncoder(tokenizer).response((Message("user", "red"),), "cat hello")
    assert tokenizer.convert_ids_to_tokens(response_ids)[0] != "▁cat"
    assert tokenizer.convert_ids_to_tokens(prompt_ids)[-1] == "▁"
    assert "".join(tokenizer.convert_ids_to_tokens(response_ids)) == "cat▁hello</s>"


def test_a_template_without_system_role_refuses_and_says_why():
    messages = (Message("system", "be kind"), *USER)
    with pytest.raises(ChatRefused, match="System role not supported") as refusal:
        ChatEncoder(make_tokenizer("gemma")).prompt(messages)
    assert "first user turn" in refusal.value.hint


def test_a_missing_template_is_named_and_mended():
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="no chat template") as refusal:
        ChatEncoder(tokenizer)
    assert "chat_template.jinja" in refusal.value.hint


BROKEN = {
    "begin with": CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
    "generation prompt lacks": CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", ""),
    "no end-of-turn token": CHATML.replace("<|im_end|>", ""),
    "does not show the response": "{{ messages[0].content }}<|im_end|>",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_unusable_templates_are_refused_with_the_fault(fault):
    tokenizer = make_tokenizer("chatml", template=BROKEN[fault])
    with pytest.raises(DataError, match=fault) as refusal:
        ChatEncoder(tokenizer).response(USER, "two")
    assert refusal.value.hint


def test_a_plain_text_header_missing_from_the_generation_prompt_is_refused():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    with pytest.raises(DataError, match="generation prompt lacks"):
        ChatEncoder(make_tokenizer("mistral", template=template)).response(USER, "two")


def test_a_template_that_changes_the_response_is_refused():
    template = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    tokenizer = make_tokenizer("chatml", template=template)
    with pytest.raises(ChatRefused, match="changes the response"):
        ChatEncoder(tokenizer).response(USER, "seven</think>two")


def test_the_date_does_not_change_the_rendering():
    template = "{% if date_string is not defined %}{{ strftime_now('%H:%M:%S.%f') }}{% endif %}" + CHATML
    tokenizer = make_tokenizer("chatml", template=template)
    assert ChatEncoder(tokenizer).prompt(USER) == ChatEncoder(make_tokenizer("chatml")).prompt(USER)


def test_stop_tokens_are_those_of_the_checkpoint_and_of_the_template():
    tokenizer = make_tokenizer("gemma")
    ids = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    assert stop_token_ids(tokenizer, None) == tuple(sorted(ids))
    assert stop_token_ids(tokenizer, GenerationConfig(eos_token_id=[77])) == tuple(sorted([*ids, 77]))
