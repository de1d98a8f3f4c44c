"""Several processes of vLLM, on a CPU: workers of Ray side by side, and one copy of the weights shared by two."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from models.tiny import ROPE, WORDS, make_tokenizer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WAYS = {
    "alone": (),
    "workers": ("cluster.address=local", "cluster.num_workers=2"),
    "shared": ("generation.vllm.tensor_parallel_size=2",),
}
SHORT = ("generation.engine=vllm", "generation.num_responses=3", "generation.max_new_tokens=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A policy whose heads are as wide as vLLM's attention on a CPU wants them, and prompts of three shards."""
    folder = tmp_path_factory.mktemp("vllm")
    tokenizer = make_tokenizer("starter")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(**{**ROPE, "hidden_size": 64}, vocab_size=len(tokenizer), tie_word_embeddings=False, **ids)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    save_policy(Policy(model, tokenizer, "memory"), folder / "policy")
    words = [f"{WORDS[n % len(WORDS)]} {n}" for n in range(150)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in words))
    return folder


@pytest.fixture(scope="module")
def responses(place, vllm_python):
    """What `fairplay generate` writes, by the way it is done."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found = {}
    for name, sets in WAYS.items():
        words = ["generate", "--model", "policy", "--input", "prompts.jsonl", "--output", f"{name}.jsonl"]
        command = [vllm_python, "-m", "fairplay", *words, *(part for one in (*SHORT, *sets) for part in ("--set", one))]
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        found[name] = (place / f"{name}.jsonl").read_bytes()
    return found


def test_two_workers_with_vllm_write_the_bytes_of_one_process(responses):
    assert responses["workers"] == responses["alone"]
    assert responses["alone"].count(b"\n") == 150


def test_two_processes_that_share_the_weights_sample_the_same_tokens(responses):
    alone, shared = ([json.loads(line) for line in responses[name].splitlines()] for name in ("alone", "shared"))
    assert [line["token_ids"] for line in shared] == [line["token_ids"] for line in alone]
    for one, other in zip(alone, shared, strict=True):
        for ours, theirs in zip(one["logps"], other["logps"], strict=True):
            assert theirs == pytest.approx(ours, abs=1e-4)
