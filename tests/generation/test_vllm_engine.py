"""vLLM as an engine, in an environment that has it: `test_with_vllm.py` runs this file there."""

import gc
import random
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

if find_spec("vllm") is None:
    pytest.skip("vllm is not installed here; test_with_vllm.py runs this file where it is", allow_module_level=True)
pytestmark = pytest.mark.slow

from fairplay.errors import DataError, ResourceError, SettingsError  # noqa: E402
from fairplay.generation import agreement  # noqa: E402
from fairplay.generation.agreement import sampling_mismatch  # noqa: E402
from fairplay.generation.settings import GenerationSettings  # noqa: E402
from fairplay.generation.table import build_engine  # noqa: E402
from fairplay.models import free_memory  # noqa: E402
from fairplay.models.adapters import add_adapters  # noqa: E402
from fairplay.models.chat import ChatEncoder  # noqa: E402
from fairplay.models.loading import Policy, load_policy  # noqa: E402
from fairplay.models.saving import save_policy  # noqa: E402
from fairplay.models.settings import AdapterSettings, ModelSettings  # noqa: E402
from fairplay.records import Message, Prompt  # noqa: E402
from models.tiny import ROPE, WORDS, make_tokenizer  # noqa: E402

SETTINGS = {"engine": "vllm", "max_new_tokens": 12, "max_prompt_length": 60}
UNLIKE_THE_POLICY = {"repetition_penalty": 5.0, "top_k": 1, "temperature": 0.01, "do_sample": True}


def make_policy(seed=0):
    """A Llama whose heads are as wide as vLLM's attention on a CPU wants them, and whose responses do end."""
    tokenizer = make_tokenizer("starter")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(**{**ROPE, "hidden_size": 64}, vocab_size=len(tokenizer), tie_word_embeddings=False, **ids)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.lm_head.weight.data[tokenizer.eos_token_id] *= 4.0
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, **UNLIKE_THE_POLICY)
    return Policy(model.eval(), tokenizer, "memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "policy"
    save_policy(make_policy(), place)
    return str(place)


def start(model, **changes):
    return build_engine(GenerationSettings(**(SETTINGS | changes)), str(model), ModelSettings())


@pytest.fixture(scope="module")
def engine(folder):
    running = start(folder, batch_size=512)
    yield running
    running.close()


def prompts(count):
    return [Prompt(f"p{i}", (Message("user", " ".join(WORDS[: 1 + i * 7 % 11])),)) for i in range(count)]


def seeds(count, k=3):
    return [[2**62 + 100 * i + sample for sample in range(k)] for i in range(count)]


@pytest.fixture(scope="module")
def groups(engine):
    return engine.respond(prompts(21), seeds(21)).groups


def test_a_sample_does_not_depend_on_its_neighbours(engine, groups):
    for index in (0, 5, 20):
        (alone,) = engine.respond([prompts(21)[index]], [seeds(21)[index][1:2]]).groups
        assert alone.responses == groups[index].responses[1:2]
    assert engine.respond(prompts(21)[::-1], seeds(21)[::-1]).groups[::-1] == groups


def test_more_prompts_than_are_read_at_once_change_no_sample(engine, groups):
    """With prompts read in parts, vLLM's CPU build fails on a seeded sample, and others draw once too often."""
    many = [Prompt(f"l{i}", (Message("user", f"{i:03d} " * 12),)) for i in range(250)]
    together = engine.respond([*prompts(21), *many], [*seeds(21), *([7] for _ in many)]).groups
    assert sum(len(group.prompt_token_ids) for group in together) > 8192
    assert together[:21] == groups
    (alone,) = engine.respond(many[200:201], [[7]]).groups
    assert alone == together[221]


def test_the_samples_of_a_prompt_are_one_request_and_each_is_that_of_its_own_seed(engine, monkeypatch):
    requests, ask = [], engine.llm.generate

    def generate(inputs, sampling, **others):
        requests.extend((one.n, one.seed) for one in sampling)
        return ask(inputs, sampling, **others)

    monkeypatch.setattr(engine.llm, "generate", generate)
    prompt = prompts(9)[8]
    (together,) = engine.respond([prompt], [[70, 71, 72, 73, 74]]).groups
    assert requests == [(5, 70)]
    apart = [engine.respond([prompt], [[seed]]).groups[0].responses[0] for seed in (70, 71, 72, 73, 74)]
    assert list(together.responses) == apart
    assert len({r.token_ids for r in apart}) == 5
    requests.clear()
    (mixed,) = engine.respond([prompt], [[72, 70, 71, 9]]).groups
    assert requests == [(1, 72), (2, 70), (1, 9)]
    assert mixed.responses[:3] == (apart[2], apart[0], apart[1])


def test_log_probs_of_sampled_tokens_are_the_trainers(folder, groups):
    found = sampling_mismatch(load_policy(folder, ModelSettings()), groups)
    assert found.num_tokens == sum(len(r.token_ids) for group in groups for r in group.responses)
    assert found.max_abs < 1e-4


def test_ids_end_tokens_and_finish_reasons_are_those_of_the_other_engines(engine, groups):
    end = engine.transcriber.tokenizer.eos_token_id
    for group, asked, drawn in zip(groups, prompts(21), seeds(21), strict=True):
        assert group.prompt == asked
        assert group.prompt_token_ids == ChatEncoder(engine.transcriber.tokenizer).prompt(asked.messages)
        assert [r.seed for r in group.responses] == drawn
    responses = [r for group in groups for r in group.responses]
    assert {r.finish_reason for r in responses} == {"stop", "length"}
    for response in responses:
        ended = response.finish_reason == "stop"
        assert response.token_ids.count(end) == ended == (response.token_ids[-1] == end)
        assert len(response.token_ids) == 12 or ended
        assert len(response.logps) == len(response.token_ids)
        assert "<|end|>" not in response.text


def test_samples_follow_the_policys_distribution_and_not_the_checkpoints_generation_config(engine, folder):
    (group,) = engine.respond(prompts(1), [list(range(2000))]).groups
    model = load_policy(folder, ModelSettings()).model
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([group.prompt_token_ids])).logits[0, -1]
    probs = logits.double().softmax(-1).numpy()
    counts = np.bincount([r.token_ids[0] for r in group.responses], minlength=len(probs))
    statistic = ((counts - 2000 * probs) ** 2 / (2000 * probs)).sum()
    assert abs(statistic - (len(probs) - 1)) < 8 * np.sqrt(2 * (len(probs) - 1))


def test_prompts_that_are_too_long_are_dropped_with_a_reason(engine):
    long = Prompt("long", (Message("user", "red cat " * 40),))
    generated = engine.respond([prompts(1)[0], long], seeds(2))
    assert [group.prompt.id for group in generated.groups] == ["p0"]
    assert [(item.id, item.reason) for item in generated.dropped] == [("long", "prompt too long")]


def test_greedy_tokens_are_transformers_and_a_closed_engine_holds_nothing(folder):
    threads, state = torch.get_num_threads(), random.getstate()
    greedy = start(folder, temperature=0.0)
    assert random.getstate() == state
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    found = greedy.respond(prompts(9), seeds(9, k=1)).groups
    expected = start(folder, temperature=0.0, engine="transformers").respond(prompts(9), seeds(9, k=1)).groups
    assert found == expected
    worker = greedy.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    held = [weakref.ref(worker.model_runner.model), *map(weakref.ref, worker.model_runner.kv_caches)]
    del worker
    assert None not in [reference() for reference in held]
    greedy.close()
    gc.collect()
    assert [reference() for reference in held] == [None] * len(held)


def test_a_lora_adapter_is_sampled_from_as_training_sees_it(folder, tmp_path):
    policy = add_adapters(load_policy(folder, ModelSettings()), AdapterSettings(lora_r=4), seed=1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    save_policy(policy, tmp_path / "adapter", merge_adapters=False)
    running = start(tmp_path / "adapter")
    found = running.respond(prompts(5), seeds(5)).groups
    running.close()
    assert sampling_mismatch(load_policy(str(tmp_path / "adapter"), ModelSettings()), found).max_abs < 1e-4
    assert sampling_mismatch(load_policy(folder, ModelSettings()), found).mean_abs > 0.01


def test_an_engine_that_computes_something_else_is_stopped_before_it_samples(folder, monkeypatch):
    monkeypatch.setitem(agreement.TOLERANCES, "float32", 1e-12)
    with pytest.raises(DataError, match="vllm and transformers disagree"):
        start(folder)


def test_weights_that_do_not_fit_are_refused_before_vllm_starts(folder, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable:      50 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    with pytest.raises(ResourceError, match="its weights take"):
        start(folder)


def test_what_vllm_can_not_do_is_told_before_it_starts(folder, tmp_path):
    for loading, told in (
        ({"dtype": "float64"}, "no float64"),
        ({"load_in_4bit": True}, "other weights"),
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
    ):
        with pytest.raises(SettingsError, match=told):
            build_engine(GenerationSettings(**SETTINGS), folder, ModelSettings(**loading))
    with pytest.raises(DataError, match="no such model folder"):
        start(tmp_path / "nowhere")
