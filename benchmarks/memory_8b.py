"""Peak memory of training all weights of an 8B on rows of 8 192 tokens, from real steps of a few of its layers.

A machine that can't hold the model can hold a slice of it: Llama-3-8B's layers, 1 to 3 of 32, under a smaller
vocabulary, in bfloat16 with AdamW's states in float32, every layer made again in the backward pass. Each slice has a
process of its own. Measured is what is held between steps, how far the resident set rises over it in the passes, and
in the optimiser's step beside the gradients. The first two are linear in layers and words, the last one in the largest
matrix: three slices give the coefficients, a fourth one shows that they predict, and they are carried on to 32 layers
and 128 256 words. Beside each figure stands the estimate that a training logs before its first step.

    python benchmarks/memory_8b.py [--tokens 8192] [--quick] [--json FILE]
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fairplay.models.encoding import EncodedExample
from fairplay.records import Prompt, TrainingExample
from fairplay.training.memory import estimate_memory
from fairplay.training.settings import TrainingSettings
from fairplay_engine import GivenModel
from measuring import machine, resident_mib, turn

WIDTHS = {"hidden_size": 4096, "intermediate_size": 14_336, "num_attention_heads": 32, "num_key_value_heads": 8}
NARROW = {"hidden_size": 512, "intermediate_size": 1792, "num_attention_heads": 8, "num_key_value_heads": 2}
WHOLE = (32, 128_256)  # layers, words
FITTED, PREDICTED = ((1, 16_000), (3, 16_000), (1, 32_000)), (2, 24_000)
SETTINGS = TrainingSettings(learning_rate=5e-7, optim="adamw_torch_fused", gradient_checkpointing=True)
TOLERANCE = 0.05
"""Of the fourth slice's peak: how far the three others may be off."""


def make_slice(layers: int, words: int, tokens: int, *, narrow: bool) -> LlamaForCausalLM:
    """Some layers of the model, with random weights in bfloat16."""
    config = LlamaConfig(
        **(NARROW if narrow else WIDTHS),
        num_hidden_layers=layers,
        vocab_size=words,
        tie_word_embeddings=False,
        max_position_embeddings=tokens,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlamaForCausalLM(config).train()
    finally:
        torch.set_default_dtype(before)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def make_row(tokens: int) -> EncodedExample:
    """A prompt and two responses that fill one row: a half and two quarters of it."""
    draw = random.Random(0)
    ids = [tuple(draw.randrange(300) for _ in range(size)) for size in (tokens // 2, tokens // 4, tokens // 4)]
    return EncodedExample(TrainingExample("0", Prompt("0", ()), (), ((0, 1),)), ids[0], tuple(ids[1:]))


def measure(layers: int, words: int, tokens: int, *, narrow: bool) -> dict[str, float]:
    """One slice in this process: what it takes, and what it should take, in MiB."""
    torch.set_num_threads(1)
    before, row = resident_mib(), make_row(tokens)
    model = make_slice(layers, words, tokens, narrow=narrow)
    estimate = estimate_memory(model, SETTINGS, [row], layout="shared", accumulates=False)
    engine = GivenModel(model, [row], layout="shared", budget=tokens, lr=SETTINGS.learning_rate, optim=SETTINGS.optim)
    turn(engine.step, at_once=True)  # the optimiser's state is there from now on
    held, optimizer = resident_mib() - before, engine.optimizer
    engine.optimizer = None
    passes = turn(engine.step, at_once=True)
    engine.optimizer = UpdateWatch(optimizer)
    engine.step()
    of_weights = sum(parameter.nbytes for parameter in model.parameters())
    return {
        "held": held,
        "passes": passes.mib,
        "update": engine.optimizer.mib + of_weights / 2**20,
        "seconds": passes.seconds,
        "estimated held": (estimate.weights + estimate.optimizer) / 2**20,
        "estimated passes": (estimate.gradients + estimate.activations + estimate.head) / 2**20,
        "estimated update": (estimate.gradients + estimate.update) / 2**20,
    }


class UpdateWatch:
    """An optimiser whose step is measured.

    Attributes:
        mib: How far the resident set rose in it.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.mib = optimizer, 0.0

    def step(self) -> None:
        """The optimiser's step."""

        def taken() -> float:
            self.optimizer.step()
            return 0.0

        self.mib = turn(taken, at_once=True).mib


def in_process(layers: int, words: int, asked: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--tokens", str(asked.tokens), "--only", str(layers), str(words)]
    done = subprocess.run(
        [*command, *(["--quick"] if asked.quick else [])], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def carried_on(found: dict[tuple[int, int], dict[str, float]], to: tuple[int, int], prefix: str) -> dict[str, float]:
    """What another number of layers and words takes, by the line through the three fitted slices.

    The optimiser's scratch, what its step takes beside gradients, is that of the largest matrix, an embedding here.
    """
    known = [found[size] for size in FITTED]
    sizes = np.array([[1, layers, words] for layers, words in FITTED], dtype=float)

    def line(part: str) -> float:
        coefficients = np.linalg.solve(sizes, np.array([one[prefix + part] for one in known]))
        return float(coefficients @ np.array([1, *to]))

    return {part: line(part) for part in ("held", "passes", "update")}


def peak(parts: dict[str, float], prefix: str = "") -> float:
    """MiB at the peak: of the passes or of the optimiser's step, whichever takes more."""
    return parts[prefix + "held"] + max(parts[prefix + "passes"], parts[prefix + "update"])


def main() -> int:
    """Measure, print, write the figures; 1 if the fourth slice is not as the others say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192, help="of the row")
    parser.add_argument("--quick", action="store_true", help="an eighth of the widths")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--only", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measure(*asked.only, asked.tokens, narrow=asked.quick)))
        return 0
    found: dict[tuple[int, int], dict[str, float]] = {}
    for size in (*FITTED, PREDICTED):
        found[size] = one = in_process(*size, asked)
        print(
            f"{size[0]} layers, {size[1]:>6} words: held {one['held']:.0f} MiB, passes {one['passes']:.0f} in "
            f"{one['seconds']:.0f} CPU s, update {one['update']:.0f}; peak {peak(one):.0f}, "
            f"{peak(one) / peak(one, 'estimated '):.2f} of the estimate",
            flush=True,
        )
    error = peak(carried_on(found, PREDICTED, "")) / peak(found[PREDICTED]) - 1
    print(
        f"{PREDICTED[0]} layers, {PREDICTED[1]} words from the other three: {100 * error:+.1f} % of the measured peak"
    )
    whole = {"carried on": carried_on(found, WHOLE, ""), "estimated": carried_on(found, WHOLE, "estimated ")}
    for name, parts in whole.items():
        told = ", ".join(f"{part} {value / 1024:.1f}" for part, value in parts.items())
        print(f"{WHOLE[0]} layers, {WHOLE[1]} words, {name}: peak {peak(parts) / 1024:.1f} GiB ({told})")
    if asked.json:
        slices = {f"{layers} layers, {words} words": parts for (layers, words), parts in found.items()}
        figures = {
            "machine": machine("transformers"),
            "tokens": asked.tokens,
            "quick": asked.quick,
            "slices_mib": slices,
            "error": error,
            "whole_mib": {name: parts | {"peak": peak(parts)} for name, parts in whole.items()},
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(not abs(error) <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
