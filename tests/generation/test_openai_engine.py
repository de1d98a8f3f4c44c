"""Any chat server as an engine: every sample asked for by itself, nothing returned with less than was asked."""

import json
import logging
from dataclasses import replace

import pytest

from fairplay.errors import DataError, ServiceError, SettingsError
from fairplay.generation.openai_engine import start_openai
from fairplay.generation.served import expected_of
from fairplay.generation.settings import GenerationSettings, decisive_settings
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.loop import check_settings
from fairplay.pipeline.single_stages import generate_file
from fairplay.records import Message, Prompt, Response, TrainingExample
from fairplay.servers.settings import ServerSettings
from models.tiny import make_model, make_tokenizer
from servers.fault_server import fault_server


def say_seed(body):
    """A different reply for every seed, cut where the question asks for it."""
    question = body["messages"][-1]["content"]
    text = f"{question[-6:]} {body['seed']} at {body['temperature']}"
    return {"text": text, "logprobs": None, "finish_reason": "length" if "long" in question else "stop"}


@pytest.fixture
def server():
    with fault_server(say_seed) as running:
        yield running


def settings_of(server, *, temperature=1.0, **changes):
    patient = {"max_attempts": 2, "max_wait": 0.1, "api_key_env": ""} | changes
    chosen = ServerSettings(**({"model": "policy", "base_url": server.url} | patient))
    return GenerationSettings(engine="openai", max_new_tokens=9, temperature=temperature, server=chosen)


def prompts(*texts):
    return [Prompt(f"p{i}", (Message("user", text),)) for i, text in enumerate(texts)]


def respond(settings, asked, seeds):
    engine = start_openai(settings, "policy", ModelSettings())
    try:
        return engine.respond(asked, seeds)
    finally:
        engine.close()


def test_every_sample_is_one_request_with_its_own_seed_and_comes_back_in_its_place(server):
    big = 2**62 + 5
    generated = respond(settings_of(server), prompts("first", "a long one"), [[3, big, 1], [3]])
    first, second = generated.groups
    assert [r.text for r in first.responses] == [f"first {seed} at 1.0" for seed in (3, big % 2**31, 1)]
    assert [r.seed for r in first.responses] == [3, big, 1]
    assert [r.finish_reason for r in (*first.responses, *second.responses)] == ["stop"] * 3 + ["length"]
    assert {r.token_ids for r in first.responses} == {first.prompt_token_ids} == {()}
    assert {(body["n"], body["max_tokens"], body["model"]) for body in server.bodies} == {(1, 9, "policy")}
    assert sorted(body["seed"] for body in server.bodies) == sorted([3, 3, 1, big % 2**31])


def test_a_server_that_stumbles_is_asked_again(server):
    (group,) = respond(settings_of(server), prompts("[500,ok] which?"), [[7, 8]]).groups
    assert [r.text.split()[1] for r in group.responses] == ["7", "8"]
    assert server.asked["[500,ok] which?"] == 3


def test_a_prompt_that_the_server_refuses_is_dropped_and_counted(server):
    generated = respond(settings_of(server), prompts("fine", "[400] too long for it"), [[1, 2], [1, 2]])
    assert [group.prompt.id for group in generated.groups] == ["p0"]
    assert [(item.id, item.reason) for item in generated.dropped] == [("p1", "refused by the server")]
    with pytest.raises(ServiceError, match="refused each of 1 prompts"):
        respond(settings_of(server), prompts("[400] everything"), [[1]])


@pytest.mark.parametrize("fault", ["500", "html", "reset", "upstream"])
def test_less_than_asked_is_an_error_that_says_how_much_and_why(server, fault):
    with pytest.raises(ServiceError, match="1 of 3 responses did not come") as caught:
        respond(settings_of(server), prompts("fine", f"[{fault}] never"), [[1, 2], [1]])
    assert "run the same again" in caught.value.hint


def test_a_slow_server_is_not_waited_for_longer_than_set(server):
    with pytest.raises(ServiceError, match="timed out 1"):
        respond(settings_of(server, timeout=0.3, max_attempts=1), prompts("[stall] hm"), [[1]])


def test_a_server_that_is_down_keeps_finished_shards_and_resuming_asks_for_the_rest_only(server, tmp_path):
    save_policy(Policy(make_model("llama"), make_tokenizer("starter"), "memory"), tmp_path / "policy")
    rows = [{"prompt": f"question {i:03}"} for i in range(64)] + [{"prompt": "[500,500,500,500,ok] the last"}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = replace(settings_of(server), num_responses=2)

    def generate():
        return generate_file(
            str(tmp_path / "policy"),
            str(tmp_path / "prompts.jsonl"),
            tmp_path / "out.jsonl",
            generation=settings,
            loading=ModelSettings(),
            seed=0,
            should_stop=lambda: False,
        )

    with pytest.raises(ServiceError, match="responses did not come"):
        generate()
    assert not (tmp_path / "out.jsonl").exists()
    counts = generate()
    assert (counts["num_out"], counts["dropped"]) == (65, {})
    assert {server.asked[f"question {i:03}"] for i in range(64)} == {2}
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(line["token_ids"] == line["logps"] == [[], []] for line in lines)
    assert len({text for line in lines for text in line["responses"]}) == 130


def test_a_server_that_does_not_sample_is_told_of_once(caplog):
    with fault_server() as silent, caplog.at_level(logging.WARNING):
        engine = start_openai(settings_of(silent), "policy", ModelSettings())
        for _ in range(2):
            engine.respond(prompts("one", "two"), [[1, 2], [3]])
        engine.close()
        respond(settings_of(silent, temperature=0.0), prompts("one"), [[1, 2]])
    assert len(caplog.records) == 1
    assert "1 of 1 prompts got the same response every time, at temperature 1" in caplog.text


def test_the_policys_folder_is_the_models_name_where_the_settings_say_so_and_its_weights_are_checked(tmp_path):
    save_policy(Policy(make_model("llama"), make_tokenizer("starter"), "memory"), tmp_path / "policy")
    named = {"model": "{policy}", "max_attempts": 1}
    with fault_server() as empty:
        own = expected_of(str(tmp_path / "policy"), settings_of(empty), ModelSettings()).continuations
    greedy = {one.messages[0].content: one.text for one in own}

    def reply(body):
        return {"text": greedy.get(body["messages"][-1]["content"], "red"), "logprobs": None, "finish_reason": "stop"}

    with fault_server(reply) as right:
        engine = start_openai(settings_of(right, **named), str(tmp_path / "policy"), ModelSettings())
        (group,) = engine.respond(prompts("x"), [[1]]).groups
        engine.close()
        assert {body["model"] for body in right.bodies} == {str((tmp_path / "policy").resolve())}
    assert group.responses[0].text == "red"
    greedy["Hello"] += " there"
    with fault_server(reply) as wrong, pytest.raises(DataError, match="something else than our own model to 1 of 8"):
        start_openai(settings_of(wrong, **named), str(tmp_path / "policy"), ModelSettings())


def test_a_run_refuses_a_server_whose_weights_would_stay_those_of_the_start(server, starter_recipe):
    with pytest.raises(SettingsError, match="names fixed weights"):
        check_settings(replace(starter_recipe, generation=settings_of(server)))
    check_settings(replace(starter_recipe, generation=settings_of(server, model="{policy}")))


@pytest.fixture
def starter_recipe(tmp_path):
    from fairplay.pipeline.settings import run_settings

    save_policy(Policy(make_model("llama"), make_tokenizer("starter"), "memory"), tmp_path / "policy")
    judge = {"kind": "rule", "function": "fairplay.starter.judge:score"}
    recipe = {
        "model": str(tmp_path / "policy"),
        "prompts": {"data": "prompts.jsonl"},
        "oracle": judge,
        "evaluation": {"prompts": "held_out.jsonl", "judge": judge},
        "objective": {"name": "sppo"},
    }
    return run_settings(recipe, [], source="recipe", name="x")


def test_only_the_model_and_what_is_sent_decide_the_responses(server):
    plain = decisive_settings(settings_of(server))
    patient = settings_of(server, timeout=9.0, base_url="http://127.0.0.1:9/v1", max_attempts=5)
    assert decisive_settings(patient) == plain
    assert decisive_settings(settings_of(server, model="other")) != plain
    assert decisive_settings(settings_of(server, extra_body={"top_k": 5})) != plain


def test_training_renders_text_without_ids_and_gives_no_end_to_what_was_cut():
    tokenizer = make_tokenizer("starter")
    responses = (Response("red", finish_reason="stop"), Response("red", finish_reason="length"))
    example = TrainingExample("x", Prompt("x", (Message("user", "what?"),)), responses, pairs=((0, 1),))
    (encoded,) = encode_examples(tokenizer, [example], max_length=64, max_prompt_length=32).examples
    ended, cut = encoded.response_ids
    assert ended == (*cut, tokenizer.eos_token_id)
