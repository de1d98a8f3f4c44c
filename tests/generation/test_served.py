"""A server that the engine starts on the policy's weights: checked before it is asked, kept to its word, stopped."""

import json
import logging
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fairplay.errors import DataError, ServiceError, SettingsError
from fairplay.generation.openai_engine import start_openai
from fairplay.generation.served import check_weights, expected_of
from fairplay.generation.settings import GenerationSettings, ServeSettings, decisive_settings
from fairplay.generation.table import check_engine
from fairplay.models.chat import ChatEncoder
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Message, Prompt
from fairplay.servers.settings import ServerSettings
from models.tiny import make_model, make_tokenizer

SERVER = Path(__file__).with_name("replaying_server.py")
COMMAND = shlex.join([sys.executable, "-S", str(SERVER), "{model}", "{port}"])
QUESTIONS = ("red cat", "green horse")
LONG = "seven " * 40


def settings_of(**serve):
    server = ServerSettings(model="policy", api_key_env="", max_attempts=1, timeout=20.0)
    chosen = ServeSettings(**({"command": COMMAND, "start_timeout": 60.0} | serve))
    return GenerationSettings(engine="openai", max_new_tokens=6, max_prompt_length=30, server=server, serve=chosen)


def save(folder, *, shift=0.0):
    """A policy, its weights moved a little; beside it what a server on these weights would reply."""
    model, tokenizer = make_model("llama"), make_tokenizer("starter")
    with torch.no_grad():
        model.lm_head.weight += shift * torch.randn(
            model.lm_head.weight.shape, generator=torch.Generator().manual_seed(3)
        )
    save_policy(Policy(model, tokenizer, "memory"), folder)
    expected = expected_of(str(folder), settings_of(), ModelSettings())
    encoder = ChatEncoder(tokenizer)
    known = {question: encoder.prompt((Message("user", question),)) for question in QUESTIONS}
    greedy = {one.messages[0].content: one for one in expected.continuations}
    replies = {
        "end": tokenizer.eos_token_id,
        "prompts": known | {question: own.prompt_ids for question, own in greedy.items()},
        "greedy": {
            question: {"text": own.text, "token_ids": own.token_ids, "top": own.top} for question, own in greedy.items()
        },
    }
    (folder / "replies.json").write_text(json.dumps(replies))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("served") / "policy")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return save(tmp_path_factory.mktemp("served") / "other", shift=0.01)


def start(folder, settings=None):
    return start_openai(settings or settings_of(), str(folder), ModelSettings())


def ask(engine, *texts):
    asked = [Prompt(text[:9], (Message("user", text),)) for text in texts]
    return engine.respond(asked, [[2**40 + 7, 3] for _ in asked])


def group_ended(process):
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_ids_and_log_probs_of_a_server_are_kept_and_it_is_gone_when_the_engine_is_closed(folder):
    engine = start(folder)
    process = engine.hosted.process
    generated = ask(engine, *QUESTIONS, LONG, "unknown")
    assert process.poll() is None
    engine.close()
    assert group_ended(process)
    first, second = generated.groups
    encoder = ChatEncoder(make_tokenizer("starter"))
    assert first.prompt_token_ids == encoder.prompt((Message("user", QUESTIONS[0]),))
    assert [r.token_ids[0] for r in second.responses] == [10 + (2**40 + 7) % 2**31 % 50, 13]
    assert [r.seed for r in second.responses] == [2**40 + 7, 3]
    assert {r.logps for r in first.responses} == {(-1.5, -2.5, -0.5)}
    assert {r.finish_reason for r in first.responses} == {"stop"}
    assert {item.id: item.reason for item in generated.dropped} == {
        LONG[:9]: "prompt too long",  # never asked
        "unknown": "the server renders it otherwise than training",
    }


@pytest.mark.parametrize("token_ids", [True, False])
def test_a_server_on_other_weights_is_stopped_before_anything_is_sampled(folder, other, token_ids):
    """Such as one that keeps those of the iteration before."""
    stale = settings_of(command=COMMAND.replace("{model}", f"{other}") + " {model}", token_ids=token_ids)
    told = "differ by" if token_ids else "says something else than our own model to"
    with pytest.raises(DataError, match=told) as caught:
        start(folder, stale)
    assert "started on these weights" in caught.value.hint


def test_without_log_probs_greedy_texts_are_compared_and_what_stays_unmeasured_is_told(tmp_path, caplog):
    silent = save(tmp_path / "silent")
    (silent / "tells-none").touch()
    with pytest.raises(ServiceError, match="tells no log-probs") as caught:
        start(silent)
    assert "generation.serve.token_ids: false" in caught.value.hint
    with caplog.at_level(logging.WARNING):
        engine = start(silent, settings_of(token_ids=False))
    (group,) = ask(engine, QUESTIONS[0]).groups
    engine.close()
    assert "is not measured" in caplog.text
    assert [r.text for r in group.responses] == ["red", "red"]
    assert {r.token_ids for r in group.responses} == {r.logps for r in group.responses} == {()}


def test_a_server_may_hold_back_an_unfinished_character_at_the_end_of_a_text_but_nothing_else(tmp_path):
    silent = save(tmp_path / "silent")
    (silent / "tells-none").touch()
    engine = start(silent, settings_of(token_ids=False))
    expected = expected_of(str(silent), settings_of(), ModelSettings())

    def ends(suffix):
        longer = tuple(replace(own, text=own.text + suffix) for own in expected.continuations)
        return replace(expected, continuations=longer)

    try:
        check_weights(engine.client, ends("\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"), token_ids=False)
        with pytest.raises(DataError, match="says something else"):
            check_weights(engine.client, ends("\N{REPLACEMENT CHARACTER}a"), token_ids=False)
    finally:
        engine.close()


def test_a_server_that_ends_in_the_middle_has_the_last_word(folder):
    engine = start(folder)
    with pytest.raises(ServiceError, match="is gone: it ended with 7; out of memory, said the server") as caught:
        ask(engine, QUESTIONS[0], "die")
    engine.close()
    assert "finished shards are kept" in caught.value.hint


def test_replies_of_the_cache_are_those_of_the_same_weights_and_never_prove_the_servers(folder, other, tmp_path):
    kept = replace(settings_of().server, cache=str(tmp_path / "replies.sqlite"))
    settings = replace(settings_of(), server=kept)
    engine = start(folder, settings)
    whole = ask(engine, *QUESTIONS)
    engine.close()
    again = start(folder, settings)
    assert ask(again, *QUESTIONS) == whole
    assert again.client.accounting().cached == 4
    again.close()
    stale = replace(settings.serve, command=COMMAND.replace("{model}", f"{other}") + " {model}")
    with pytest.raises(DataError, match="differ by"):
        start(folder, replace(settings, serve=stale))


def test_what_can_not_be_started_is_told_before_a_run_starts():
    for command, told in (("serve {model}", "`{port}` is missing"), ("serve '{model} {port}", "No closing quotation")):
        with pytest.raises(SettingsError, match=told):
            ServeSettings(command)
    with pytest.raises(SettingsError, match="the engine vllm asks no server"):
        GenerationSettings(engine="vllm", serve=ServeSettings(COMMAND))
    with pytest.raises(SettingsError, match="there is no program `no-such-server`"):
        check_engine(settings_of(command="no-such-server {model} {port}"))


def test_where_a_server_comes_from_decides_no_response_but_what_it_tells_does():
    assert decisive_settings(settings_of()) == decisive_settings(settings_of(command="other {model} {port}"))
    assert decisive_settings(settings_of()) != decisive_settings(settings_of(token_ids=False))
