"""Attention alone, forward and backward: fairplay's segments beside padded rows as TRL's and other trainers read them.

The layers' queries, keys and values are drawn for the tokens of whole groups; outputs at the responses and gradients in
every token are equal to those of float64 rows by themselves, or the benchmark fails. `padded, mask` is the route of
TRL's DPOTrainer: chosen and rejected rows of one pair (or four) filled up on the right, and a mask, with which torch's
fused attention on a CPU computes all that is masked; `padded` leaves the mask out, as fairplay's layout does.

    python benchmarks/attention.py [--quick] [--json FILE] [--sets uf longprompt k5] [--heads small 8b] [--rounds 5]
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fairplay.models.attention import attend
from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import RowLayout, lay_rows
from fairplay.training.batches import example_rows
from measuring import machine, ratios, spread, take_turns, told
from workloads import SETS, make_examples

LARGEST_DIFFERENCE = 1e-4  # of outputs and gradients of size 1, in float32
HEADS = {"small": (8, 4, 40), "8b": (32, 8, 128)}
"""Query heads, key heads, size of a head: of the benchmarks' model, and of an 8B's."""
OURS, PEER = "fairplay, shared prompts", "padded, mask, 1 pair (TRL)"


@dataclass(frozen=True)
class Tokens:
    """Queries, keys and values of the tokens of all groups, each prompt once.

    Attributes:
        examples: The groups.
        heads: Query heads, key heads, size of a head.
    """

    examples: Sequence[EncodedExample]
    heads: tuple[int, int, int]

    @cached_property
    def layout(self) -> RowLayout:
        """How they lie."""
        return lay_rows(example_rows(self.examples), "shared")

    @cached_property
    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query, key, value and the output's gradient, [heads, tokens, size] each; no gradient at prompts."""
        generator, count = torch.Generator().manual_seed(0), self.layout.input_ids.shape[1]
        queries, keys, size = self.heads
        made = [torch.randn(heads, count, size, generator=generator) for heads in (queries, keys, keys, queries)]
        is_response = torch.ones(count, dtype=torch.bool)
        for start, prompt_end, *_ in self.layout.segments.groups:
            is_response[start:prompt_end] = False
        return made[0], made[1], made[2], made[3] * is_response[:, None]

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """Places of each row's tokens, prompt and response, in the order of the groups' responses."""
        found = []
        for start, prompt_end, *ends in self.layout.segments.groups:
            borders = [prompt_end, *ends]
            for first, end in pairwise(borders):
                found.append(torch.cat([torch.arange(start, prompt_end), torch.arange(first, end)]))
        return tuple(found)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Rows of the chosen and the rejected response of every pair."""
        found, first = [], 0
        for example in self.examples:
            found += [(first + chosen, first + rejected) for chosen, rejected in example.example.pairs]
            first += len(example.response_ids)
        return found


class Segments:
    """Fairplay's attention on one input that holds all groups."""

    def __init__(self, tokens: Tokens) -> None:
        self.layout, self.places = tokens.layout, torch.arange(tokens.layout.input_ids.shape[1])
        *inputs, self.grad = (value[None] for value in tokens.values)
        self.inputs = [value.requires_grad_() for value in inputs]

    def run(self) -> float:
        """Forward and backward."""
        out, _ = attend(torch.nn.Module(), *self.inputs, None, segments=self.layout.segments)
        self.out = out.transpose(1, 2)
        self.gradients = torch.autograd.grad(self.out, self.inputs, self.grad)
        return 0.0

    def results(self, count: int) -> tuple[Tensor, ...]:
        """Output times its gradient's mask, and the gradients of query, key and value; [heads, tokens, size] each."""
        return (self.out[0].detach() * (self.grad[0] != 0), *(value[0] for value in self.gradients))


class Padded:
    """Torch's attention on rows filled up on the right, some at a time.

    Args:
        tokens: What the rows are of.
        batches: Rows of each call.
        masked: Whether a mask says what is padding.
        eager: Whether scores are computed whole.
        dtype: What is computed in.
    """

    def __init__(
        self,
        tokens: Tokens,
        batches: Sequence[Sequence[int]],
        *,
        masked: bool,
        eager: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rows, self.batches, self.eager = tokens.rows, batches, eager
        self.inputs, self.grads, self.masks = [], [], []
        for batch in batches:
            longest = max(len(tokens.rows[row]) for row in batch)
            filled = [torch.zeros(len(batch), *value.shape[:1], longest, value.shape[2]) for value in tokens.values]
            for place, row in enumerate(batch):
                for into, value in zip(filled, tokens.values, strict=True):
                    into[place, :, : len(tokens.rows[row])] = value[:, tokens.rows[row]]
            *inputs, grad = (value.to(dtype) for value in filled)
            self.inputs.append([value.requires_grad_() for value in inputs])
            self.grads.append(grad)
            lengths = torch.tensor([len(tokens.rows[row]) for row in batch])
            seen = torch.ones(longest, longest, dtype=torch.bool).tril() & (
                torch.arange(longest) < lengths[:, None, None]
            )
            self.masks.append(seen[:, None] if masked or eager else None)

    def run(self) -> float:
        """Forward and backward of every batch."""
        self.outs, self.gradients = [], []
        for inputs, grad, mask in zip(self.inputs, self.grads, self.masks, strict=True):
            out = _eager(*inputs, mask) if self.eager else self._fused(*inputs, mask)
            self.outs.append(out.detach())
            self.gradients.append(torch.autograd.grad(out, inputs, grad))
        return 0.0

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=key.shape[1] != query.shape[1]
        )

    def results(self, count: int) -> tuple[Tensor, ...]:
        """As `Segments`: rows added up at their tokens."""
        parts = [[out * (grad != 0), *of] for out, grad, of in zip(self.outs, self.grads, self.gradients, strict=True)]
        totals = [torch.zeros(part.shape[1], count, part.shape[3], dtype=part.dtype) for part in parts[0]]
        for batch, values in zip(self.batches, parts, strict=True):
            for place, row in enumerate(batch):
                for total, value in zip(totals, values, strict=True):
                    total.index_add_(1, self.rows[row], value[place, :, : len(self.rows[row])])
        return tuple(totals)


def _eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """All scores at once, as transformers' `eager`."""
    key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scores = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) @ value


def make_engines(tokens: Tokens) -> dict[str, Callable[[], Segments | Padded]]:
    """How to make each engine, fairplay's first; as TRL, those of pairs compute a row as often as it has pairs."""
    rows, pairs = list(range(len(tokens.rows))), tokens.pairs
    four = [[row for pair in pairs[first : first + 4] for row in pair] for first in range(0, len(pairs), 4)]
    return {
        OURS: partial(Segments, tokens),
        "padded, all rows": partial(Padded, tokens, [rows], masked=False),
        PEER: partial(Padded, tokens, pairs, masked=True),
        "padded, mask, 4 pairs (TRL)": partial(Padded, tokens, four, masked=True),
        "padded, eager, 1 pair": partial(Padded, tokens, pairs, masked=True, eager=True),
    }


def difference(engine: Segments | Padded, exact: tuple[Tensor, ...], weights: Tensor, count: int) -> float:
    """Largest difference of outputs and gradients, once what several pairs count several times is counted as often."""
    engine.run()
    found = engine.results(count)
    if isinstance(engine, Padded) and len([row for batch in engine.batches for row in batch]) != len(engine.rows):
        return max(float((found[n] - weights * exact[n]).abs().max()) for n in (0, 1))  # keys mix rows of all pairs
    return max(float((own - other).abs().max()) for own, other in zip(found, exact, strict=True))


def measure(name: str, heads: str, rounds: int) -> dict[str, object]:
    """Equality, then turns, on one set."""
    tokens = Tokens(make_examples(name, 4096), HEADS[heads])
    count = tokens.layout.input_ids.shape[1]
    truth = Padded(tokens, [[row] for row in range(len(tokens.rows))], masked=False, dtype=torch.float64)
    truth.run()
    exact, seats = truth.results(count), torch.zeros(count)
    for pair in tokens.pairs:
        for row in pair:
            seats[tokens.rows[row]] += 1
    engines = {label: make() for label, make in make_engines(tokens).items()}
    weights = seats[:, None].double()
    differences = {label: difference(engine, exact, weights, count) for label, engine in engines.items()}
    turns = take_turns({label: engine.run for label, engine in engines.items()}, rounds)
    print(f"\n{name}, heads {HEADS[heads]}: {len(tokens.rows)} responses, {count} tokens with shared prompts\n")
    columns = ("attention", "CPU s", "time / fairplay", "MiB in use", "difference")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    lines = []
    for label, turn in turns.items():
        ratio, seconds = ratios(turn, turns[OURS]), spread(turn.seconds)
        is_equal = differences[label] <= LARGEST_DIFFERENCE
        print(
            f"| {label} | {seconds['median']:.3f} | {told(ratio)} | {turn.mib_in_use:.0f} "
            f"| {differences[label]:.0e}{'' if is_equal else ' DIFFERS'} |",
            flush=True,
        )
        lines.append(
            {"attention": label, "seconds": seconds, "ratio": ratio, "mib": spread(turn.mib),
             "mib_in_use": turn.mib_in_use, "difference": differences[label], "equal": is_equal}
        )  # fmt: skip
    return {"set": name, "heads": heads, "tokens": count, "engines": lines}


def main() -> int:
    """Measure every case; 1 if something else is computed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the small heads only, 2 rounds")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--heads", nargs="+", choices=HEADS)
    parser.add_argument("--rounds", type=int, help="5, or 2 if quick")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    heads = asked.heads or (["small"] if asked.quick else list(HEADS))
    rounds = asked.rounds or (2 if asked.quick else 5)
    results = [measure(name, kind, rounds) for kind in heads for name in asked.sets]
    if asked.json:
        asked.json.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    return int(not all(line["equal"] for result in results for line in result["engines"]))


if __name__ == "__main__":
    sys.exit(main())
