"""The engine `openai` against servers as users run them."""

import shlex
import sys
from pathlib import Path

import pytest

from fairplay.generation.openai_engine import start_openai
from fairplay.generation.settings import GenerationSettings, ServeSettings
from fairplay.models.settings import ModelSettings
from fairplay.records import Message, Prompt
from fairplay.servers.settings import ServerSettings
from models.tiny import WORDS

from .real_servers import save_samplable_policy, serve

pytestmark = pytest.mark.slow
PROMPTS = [Prompt(f"p{i}", (Message("user", " ".join(WORDS[: 1 + i])),)) for i in range(4)]
SEEDS = [[2**62 + 10 * i + k for k in range(3)] for i in range(4)]


def check_samples(model, url, **patience):
    """K different samples a prompt, the same ones when asked again, alone or together."""
    server = ServerSettings(model="{policy}", base_url=url, api_key_env="", timeout=300.0, **patience)
    engine = start_openai(
        GenerationSettings(engine="openai", max_new_tokens=8, server=server), str(model), ModelSettings()
    )
    try:
        first = engine.respond(PROMPTS, SEEDS)
        assert not first.dropped
        assert [group.prompt for group in first.groups] == PROMPTS
        for group, seeds in zip(first.groups, SEEDS, strict=True):
            assert [r.seed for r in group.responses] == seeds
            assert len({r.text for r in group.responses}) == 3
            assert {r.finish_reason for r in group.responses} <= {"stop", "length"}
        assert engine.respond(PROMPTS[2:3], [SEEDS[2][1:2]]).groups[0].responses == first.groups[2].responses[1:2]
    finally:
        engine.close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "policy"
    save_samplable_policy(folder)
    return folder.resolve()


def test_transformers_serve_is_asked_sample_by_sample(policy, tmp_path):
    cli = str(Path(sys.executable).with_name("transformers"))
    command = [cli, "serve", str(policy), "--device", "cpu", "--dtype", "float32", "--port", "{port}"]
    with serve(command, tmp_path / "log") as url:
        check_samples(
            policy, url, max_concurrency=1
        )  # its seeds are the process's: samples in flight disturb each other


def test_transformers_serve_is_started_for_the_time_that_it_responds(policy, caplog):
    """Of log-probs it tells none: its weights are checked by greedy texts, and the rest is said to be unmeasured."""
    program = shlex.quote(str(Path(sys.executable).with_name("transformers")))
    command = f"env HF_HUB_OFFLINE=1 {program} serve {{model}} --device cpu --dtype float32 --port {{port}}"
    server = ServerSettings(model="{policy}", api_key_env="", timeout=300.0, max_concurrency=1)
    settings = GenerationSettings(
        engine="openai", max_new_tokens=8, server=server, serve=ServeSettings(command, token_ids=False)
    )
    engine = start_openai(settings, str(policy), ModelSettings())
    first = engine.respond(PROMPTS[:2], SEEDS[:2])
    engine.close()
    assert [len({r.text for r in group.responses}) for group in first.groups] == [3, 3]
    assert "is not measured" in caplog.text


def test_a_vllm_server_is_asked_sample_by_sample(policy, tmp_path, vllm_python):
    options = ["--dtype", "float32", "--max-model-len", "96", "--enforce-eager", "--seed", "0", "--disable-log-stats"]
    command = [vllm_python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(policy), *options]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with serve([*command, "--generation-config", "vllm", "--port", "{port}"], tmp_path / "log", **environment) as url:
        check_samples(policy, url)
