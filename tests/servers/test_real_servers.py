"""The judge against real servers of a tiny model: transformers serve, and vLLM where an environment has it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.pipeline.judge_files import JudgeFilesSettings, Task, judge_files
from fairplay.records import Message
from fairplay.servers.client import ChatClient
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
from fairplay.storage.settings_file import build_settings
from models.tiny import make_tokenizer

pytestmark = pytest.mark.slow
READY_SECONDS = 240
HELLO = (Message("user", "the red cat?"),)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model that can say nothing but A and B, and the ids of these."""
    folder = tmp_path_factory.mktemp("judge") / "tiny"
    tokenizer = make_tokenizer("chatml")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,  # vLLM on a CPU has no attention for heads of less than 32
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
    )
    save_policy(Policy(LlamaForCausalLM(config), tokenizer, "memory"), folder)
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "AB"]
    path = folder / "generation_config.json"
    others = [number for number in range(len(tokenizer)) if number not in letters]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": others}))
    return folder, letters


@contextmanager
def serving(command, log):
    """The base URL of a server started by `command` on a free port; it is ended by its own process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment |= {"VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as told:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=told, stderr=told, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _is_healthy(port):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _is_healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def sides(folder):
    paths = []
    for name, text in (("ours", "green horse"), ("theirs", "red")):
        rows = [{"instruction": f"Say {i} apple.", "output": f"{text} {i}", "generator": name} for i in range(12)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
        paths.append(str(folder / f"{name}.json"))
    return paths


def judge_with(tmp_path, **judge):
    settings = build_settings(JudgeFilesSettings, {"judge": judge, "num_bootstrap": 200}, "test")
    return judge_files(Task("pair", *sides(tmp_path)), settings, tmp_path / "out")


def test_transformers_serve_judges_in_words_and_what_it_ignores_is_a_failure_by_name(tmp_path, checkpoint):
    folder, _ = checkpoint
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    server = {"model": str(folder), "timeout": 60.0}
    with serving([*command, "--dtype", "float32"], tmp_path / "log") as url:
        server["base_url"] = url
        document = judge_with(tmp_path, server=server, log_probs=False, max_tokens=1)
        with ChatClient(ServerSettings(str(folder), url, timeout=60.0)) as client:
            asked = [ChatRequest(HELLO, 2, num_choices=2), ChatRequest(HELLO, 2, top_logprobs=2)]
            asked += [ChatRequest(HELLO, 2, must_end=True), ChatRequest(HELLO, 2)]
            told = [getattr(outcome, "reason", "ok") for outcome in client.complete(asked)]
    assert told == ["fewer choices than asked for", "no log-probs", "cut reply", "ok"]
    assert document["games"] == document["games"] | {"requested": 24, "ok": 24, "failures": {}}
    assert set(document["games"]["labels"]) <= {"A", "B"}
    again = judge_with(tmp_path, server=server, log_probs=False, max_tokens=1)  # the server is gone: from the cache
    assert again["comparison"] == document["comparison"]
    assert again["account"]["cached"] == again["account"]["requested"] == 96  # with those of the canaries


def test_vllm_judges_by_log_probs(tmp_path, checkpoint, vllm_python):
    folder, letters = checkpoint
    command = [str(vllm_python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "judge", "--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"]
    command += ["--logprobs-mode", "processed_logprobs", "--seed", "0"]
    server = {"model": "judge", "timeout": 120.0, "extra_body": {"allowed_token_ids": letters}}
    with serving(command, tmp_path / "log") as url:
        server["base_url"] = url
        document = judge_with(tmp_path, server=server, max_tokens=1)
        with ChatClient(ServerSettings("judge", url, timeout=120.0)) as client:
            same, other, several = client.complete(
                [
                    ChatRequest(HELLO, 8, temperature=1.0, seed=1),
                    ChatRequest(HELLO, 8, temperature=1.0, seed=2),
                    ChatRequest(HELLO, 8, temperature=1.0, num_choices=2, top_logprobs=3),
                ]
            )
            (again,) = client.complete([ChatRequest(HELLO, 8, temperature=1.0, seed=1, repeat=1)])
    assert same.choices == again.choices
    assert same.choices != other.choices
    assert [len(choice.positions[0].top) for choice in several.choices] == [3, 3]
    assert document["games"] == document["games"] | {"requested": 24, "ok": 24, "failures": {}}
    assert document["games"]["read_by_log_probs"] == 24
    assert document["games"]["mean_mass"] == pytest.approx(1, abs=1e-4)
    assert 0.05 < document["comparison"]["win_rate"] < 0.95  # random weights know no sure winner
