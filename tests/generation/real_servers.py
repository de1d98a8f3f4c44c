"""Real chat servers on 127.0.0.1, each a process of its own, and a policy small enough for them."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from models.tiny import ROPE, make_tokenizer

READY_SECONDS = 400.0


def save_samplable_policy(folder: Path) -> None:
    """A policy with heads as wide as vLLM wants them on a CPU, that `transformers serve` samples from."""
    tokenizer = make_tokenizer("starter")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(**{**ROPE, "hidden_size": 64}, vocab_size=len(tokenizer), **ids)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, do_sample=True, top_k=0)
    save_policy(Policy(model, tokenizer, "memory"), folder)


@contextmanager
def serve(command: Sequence[str], log: Path, **environment: str) -> Iterator[str]:
    """Run a server until the block ends; `{port}` in the command is a free port.

    Yields:
        Its base URL, once `/health` says that it is ready.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    words = [word.replace("{port}", str(port)) for word in command]
    with (
        log.open("wb") as out,
        subprocess.Popen(words, env=settings, stdout=out, stderr=out, cwd=log.parent) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"not ready in time: {log.read_text()[-3000:]}")
