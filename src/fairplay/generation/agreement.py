"""Whether an engine and the model that is trained mean the same policy: their log-probs of the same tokens.

Before it samples, an engine's weights are checked on a fixed text (`refuse_disagreement`); afterwards the log-probs of
its own samples are measured against the trainer's, token for token (`sampling_mismatch`). Left out: engines that can't
tell log-probs, for which there is nothing to compare. Floor 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum
from typing import TYPE_CHECKING

from fairplay.errors import DataError
from fairplay.models.adapters import scoring_mode
from fairplay.models.layouts import Row
from fairplay.models.token_logps import score_rows
from fairplay.records import Message, ResponseGroup

if TYPE_CHECKING:
    from fairplay.models.chat import ChatEncoder
    from fairplay.models.loading import Policy

TOLERANCES = {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.1}
"""dtype -> mean difference of log-probs, nats, up to which two implementations are taken for one model.

In float32 two right ones differ by about 1e-6; weights that were reloaded wrongly by some tenths (vllm #32718, #42821).
"""
_QUESTION = (Message("user", "Which of two answers is better, and why?"),)
_NUM_PROBE_TOKENS = 32
_ROWS_AT_ONCE, _TILE = 16, 4096
MAX_MEASURED = 256
"""Responses whose log-probs are measured; spread evenly over all of them."""


@dataclass(frozen=True, slots=True)
class SamplingMismatch:
    """How far the engine's log-probs of the tokens it sampled are from the trainer's.

    Attributes:
        num_tokens: Tokens compared; 0 where the engine told no log-probs.
        mean_abs: Mean absolute difference, nats.
        max_abs: Largest absolute difference, nats.
        kl: Estimate of KL(engine || trainer) a token, nats: the mean of exp(r) - 1 - r with r = trainer - engine, which
            is never negative. Without bias where tokens were drawn at temperature 1 and top-p 1.

    Source: Schulman 2020, "Approximating KL divergence" (the estimator k3).
    """

    num_tokens: int
    mean_abs: float
    max_abs: float
    kl: float


def probe_text(encoder: "ChatEncoder", vocabulary: int, context: int) -> tuple[tuple[int, ...], ...]:
    """Token ids that an engine's weights are checked on: a rendered question, and ids from all over the vocabulary.

    Args:
        encoder: The policy's.
        vocabulary: Number of tokens.
        context: Tokens that a text may have; at least 2.
    """
    scattered = tuple((7 * step + 1) % vocabulary for step in range(_NUM_PROBE_TOKENS))
    return encoder.prompt(_QUESTION)[:context], scattered[:context]


def own_logps(policy: "Policy", texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probs of every token but the first of each text under our own model, nats."""
    return _logps(policy, [(tuple(text[:1]), tuple(text[1:])) for text in texts])


def refuse_disagreement(
    expected: Sequence[Sequence[float]], found: Sequence[Sequence[float]], *, dtype: str, engine: str
) -> None:
    """Stop before anything is sampled from an engine that holds other weights, or computes them otherwise.

    Args:
        expected: Our own model's log-probs, by text.
        found: The engine's, of the same tokens.
        dtype: Type of the weights, a key of `TOLERANCES`.
        engine: The engine's name, for the message.

    Raises:
        DataError: If they differ by more than two implementations of one model can.
    """
    pairs = [pair for rows in zip(expected, found, strict=True) for pair in zip(*rows, strict=True)]
    mean = fsum(abs(ours - theirs) for ours, theirs in pairs) / len(pairs)
    if not mean <= TOLERANCES[dtype]:  # a NaN is refused too
        raise DataError(
            f"the engine {engine} and transformers disagree about this model: log-probs of the same {len(pairs)} "
            f"tokens differ by {mean:.2g} nats on average, {TOLERANCES[dtype]:g} is the most for {dtype}",
            hint="use generation.engine=transformers, or another version of the engine",
        )


def sampling_mismatch(policy: "Policy", groups: Sequence[ResponseGroup]) -> SamplingMismatch:
    """The engine's log-probs of its samples against our own model's.

    Args:
        policy: What the engine sampled from, as training loads it.
        groups: What it responded; at most `MAX_MEASURED` of the responses that have log-probs are compared.
    """
    rows, told = [], []
    for group in groups:
        for response in group.responses:
            if response.logps and group.prompt_token_ids:
                rows.append((group.prompt_token_ids, response.token_ids))
                told.append(response.logps)
    step = max(1, -(-len(rows) // MAX_MEASURED))
    ours = _logps(policy, rows[::step])
    differences = [
        own - its for one, other in zip(ours, told[::step], strict=True) for own, its in zip(one, other, strict=True)
    ]
    if not differences:
        return SamplingMismatch(0, 0.0, 0.0, 0.0)
    count = len(differences)
    return SamplingMismatch(
        num_tokens=count,
        mean_abs=fsum(map(abs, differences)) / count,
        max_abs=max(map(abs, differences)),
        kl=fsum(exp(min(r, 700.0)) - 1.0 - r for r in differences) / count,
    )


def _logps(policy: "Policy", rows: Sequence[Row]) -> list[list[float]]:
    """Log-probs of the responses of rows, by row, in the order given."""
    order = sorted(range(len(rows)), key=lambda index: sum(map(len, rows[index])))
    found: list[list[float]] = [[] for _ in rows]
    with scoring_mode(policy.model):
        for start in range(0, len(order), _ROWS_AT_ONCE):
            batch = order[start : start + _ROWS_AT_ONCE]
            scores = score_rows(policy.model, [rows[index] for index in batch], tile=_TILE)
            values = iter(scores.logps.double().tolist())
            for index in batch:
                found[index] = [next(values) for _ in rows[index][1]]
    return found
