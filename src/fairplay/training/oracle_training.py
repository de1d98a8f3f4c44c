"""Training a pair model on labelled pairs, and measuring on held-out prompts what its verdicts are worth.

Left out: the model (`oracles/pair_model.py`), the policy's own training (`loop.py`), resuming inside a run of half a
minute. Floor 5. Flow: pairs -> split by prompt -> rows -> AdamW steps -> held-out accuracy and temperature -> folder.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from fairplay.errors import DataError, Preempted
from fairplay.models.loading import configure_threads, load_policy
from fairplay.models.settings import ModelSettings
from fairplay.oracles.batching import length_batches
from fairplay.oracles.pair_encoding import EncodedTexts, PairEncoder, PairRow
from fairplay.oracles.pair_model import PairModel, PairModelFacts
from fairplay.preferences.calibration import fit_temperature
from fairplay.progress import progress
from fairplay.records import Dropped, Interval, Prompt, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.atomic import folder_atomic
from fairplay.training.oracle_settings import PairTrainingSettings

logger = logging.getLogger(__name__)

EQUAL_TEXTS = "chosen and rejected are equal"
BATCHES_SORTED_TOGETHER = 16  # enough to make neighbours alike in length, few enough to keep batches mixed
HELD_OUT_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class PairTrainingSummary:
    """What came of training a pair model.

    Attributes:
        steps: Optimiser steps.
        num_train_pairs, num_held_out_pairs: Pairs learnt from, and pairs of other prompts kept apart.
        accuracy: Share of held-out pairs whose labelled winner is preferred, both orders averaged, with Wilson's 95 %
            interval (pairs of one prompt are counted as independent, so it is a little narrow).
        temperature: T fitted on the held-out pairs; saved with the model.
        num_truncated: Pairs of which the model reads only a part.
        last_loss: Mean loss of the last tenth of the steps, nats.
        dropped: Pairs left out, with the reason.
    """

    steps: int
    num_train_pairs: int
    num_held_out_pairs: int
    accuracy: Interval
    temperature: float
    num_truncated: int
    last_loss: float
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two of the encoded texts that answer a prompt: the indices of the chosen and of the rejected one."""

    id: str
    encoded: EncodedTexts
    chosen: int
    rejected: int

    @property
    def truncated(self) -> bool:
        return self.encoded.truncated[self.chosen] or self.encoded.truncated[self.rejected]


def train_pair_model(
    base: str,
    pairs: Sequence[TrainingExample],
    settings: PairTrainingSettings,
    output: Path,
    seed: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> PairTrainingSummary:
    """Train a pair model from a policy's body and save it; the same call gives the same bytes.

    Args:
        base: Policy folder or hub id whose body and tokenizer are taken.
        pairs: Labelled pairs; each (chosen, rejected) of an example's `pairs` is one.
        settings: Steps, rates, share of held-out prompts.
        output: The folder to fill; it appears only when it is whole, and takes the place of an older one.
        seed: The run's seed.
        should_stop: Asked after every step; a training that stops begins anew the next time.

    Returns:
        Accuracy and temperature on held-out prompts, and what was dropped.

    Raises:
        DataError: If an example has no pair, or fewer than two prompts have a pair of different texts.
        Preempted: If asked to stop.
    """
    policy = load_policy(base, ModelSettings())
    body = policy.model.base_model
    longest = min(settings.max_length, getattr(body.config, "max_position_embeddings", settings.max_length))
    facts = PairModelFacts(temperature=1.0, max_length=longest)
    model = PairModel(body, policy.tokenizer, facts, head_seed=stable_seed(seed, "pair model", "head"))
    configure_threads(sum(parameter.numel() for parameter in model.parameters()))
    model.to(policy.model.device)
    kept, dropped = _different_pairs(pairs)
    held_out_prompts = _held_out_prompts(kept, settings.held_out_share, seed)
    encoder = model.encoder(longest)
    train = _encode(encoder, [pair for pair in kept if pair.prompt.id not in held_out_prompts])
    held_out = _encode(encoder, [pair for pair in kept if pair.prompt.id in held_out_prompts])
    losses = _fit(model, encoder, train, settings, seed, should_stop)
    logits = _symmetric_logits(model, encoder, held_out)
    model.facts = PairModelFacts(temperature=fit_temperature(logits), max_length=longest)
    summary = PairTrainingSummary(
        steps=settings.max_steps,
        num_train_pairs=len(train),
        num_held_out_pairs=len(held_out),
        accuracy=accuracy_interval(logits),
        temperature=model.facts.temperature,
        num_truncated=sum(pair.truncated for pair in (*train, *held_out)),
        last_loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
        dropped=dropped,
    )
    with folder_atomic(output) as unfinished:
        model.save(unfinished)
    logger.info(
        "pair model: %d steps, held-out accuracy %.3f [%.3f, %.3f] on %d pairs, temperature %.3f",
        summary.steps,
        summary.accuracy.value,
        summary.accuracy.low,
        summary.accuracy.high,
        summary.num_held_out_pairs,
        summary.temperature,
    )
    return summary


def accuracy_interval(chosen_logits: NDArray[np.floating]) -> Interval:
    """Share of positive logits (0 counts half) with Wilson's 95 % interval, [pairs] -> Interval."""
    num_pairs = len(chosen_logits)
    num_right = float((chosen_logits > 0).sum() + 0.5 * (chosen_logits == 0).sum())
    interval = binomtest(round(num_right), num_pairs).proportion_ci(method="wilson")
    return Interval(num_right / num_pairs, float(interval.low), float(interval.high))


def _different_pairs(pairs: Sequence[TrainingExample]) -> tuple[list[TrainingExample], tuple[Dropped, ...]]:
    """One example a pair, chosen first; pairs of equal texts are dropped."""
    kept, dropped = [], []
    for example in pairs:
        if not example.pairs:
            raise DataError(f"example {example.id}: it has no pair", hint="a pair model learns from labelled pairs")
        for number, (chosen, rejected) in enumerate(example.pairs):
            pair_id = f"{example.id}#{number}" if len(example.pairs) > 1 else example.id
            responses = (example.responses[chosen], example.responses[rejected])
            if responses[0].text == responses[1].text:
                dropped.append(Dropped(pair_id, EQUAL_TEXTS))
            else:
                kept.append(TrainingExample(pair_id, example.prompt, responses, pairs=((0, 1),)))
    return kept, tuple(dropped)


def _held_out_prompts(pairs: Sequence[TrainingExample], share: float, seed: int) -> frozenset[str]:
    prompts = sorted({pair.prompt.id for pair in pairs}, key=lambda prompt: stable_seed(seed, "held out", prompt))
    if len(prompts) < 2:
        raise DataError(
            f"{len(prompts)} prompts have a pair of different texts; a pair model needs 2 or more",
            hint="one to learn from and one to be tested on",
        )
    return frozenset(prompts[: min(max(1, round(share * len(prompts))), len(prompts) - 1)])


def _encode(encoder: PairEncoder, pairs: Sequence[TrainingExample]) -> list[LabelledPair]:
    """The pairs as token ids; prompts and texts that occur in several pairs are tokenised once."""
    texts: dict[Prompt, dict[str, int]] = {}
    for pair in pairs:
        known = texts.setdefault(pair.prompt, {})
        for response in pair.responses:
            known.setdefault(response.text, len(known))
    encoded = {prompt: encoder.encode(prompt, tuple(known)) for prompt, known in texts.items()}
    return [
        LabelledPair(pair.id, encoded[pair.prompt], *(texts[pair.prompt][response.text] for response in pair.responses))
        for pair in pairs
    ]


def _batches(
    encoder: PairEncoder, pairs: Sequence[LabelledPair], *, size: int, epoch: int, seed: int
) -> list[list[LabelledPair]]:
    """One epoch in batches of like length: drawn order, sorted within a few batches, batches in drawn order."""
    draw = Random(stable_seed(seed, "pair model", "batches", epoch))  # noqa: S311 - a reproducible draw, no secret
    order = draw.sample(range(len(pairs)), len(pairs))
    window = size * BATCHES_SORTED_TOGETHER
    batches = []
    for start in range(0, len(order), window):
        alike = sorted(order[start : start + window], key=lambda i: _row_length(encoder, pairs[i]))
        batches += [[pairs[i] for i in alike[at : at + size]] for at in range(0, len(alike), size)]
    draw.shuffle(batches)
    return batches


def _fit(
    model: PairModel,
    encoder: PairEncoder,
    pairs: Sequence[LabelledPair],
    settings: PairTrainingSettings,
    seed: int,
    should_stop: Callable[[], bool],
) -> list[float]:
    """Train in place; the loss of each step in nats."""
    optimizer = AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    schedule = LambdaLR(optimizer, lambda step: _rate(step, settings))
    losses: list[float] = []
    epoch = 0
    model.train()
    with torch.random.fork_rng(), progress("training the pair model", settings.max_steps) as counter:
        torch.manual_seed(stable_seed(seed, "pair model", "dropout"))
        while len(losses) < settings.max_steps:
            for batch in _batches(encoder, pairs, size=settings.per_device_train_batch_size, epoch=epoch, seed=seed):
                if len(losses) == settings.max_steps:
                    break
                chosen_first = [stable_seed(seed, "pair order", epoch, pair.id) % 2 == 0 for pair in batch]
                rows = [_row(encoder, pair, first) for pair, first in zip(batch, chosen_first, strict=True)]
                logits = model(rows)
                loss = functional.binary_cross_entropy_with_logits(logits, torch.tensor(chosen_first).to(logits))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                if not np.isfinite(losses[-1]):
                    raise DataError(
                        f"the pair model's loss is {losses[-1]} at step {len(losses)}", hint="lower the rate"
                    )
                if should_stop():
                    raise Preempted(f"stopped in the pair model's training after step {len(losses)}")
                counter.advance()
            epoch += 1
    model.eval()
    return losses


def _rate(step: int, settings: PairTrainingSettings) -> float:
    """Share of the peak learning rate at a step: linear rise, then linear fall to 0."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return rise * max(0.0, 1 - step / settings.max_steps)


def _row(encoder: PairEncoder, pair: LabelledPair, chosen_first: bool) -> PairRow:
    order = (pair.chosen, pair.rejected) if chosen_first else (pair.rejected, pair.chosen)
    return encoder.row(pair.encoded, *order)


def _row_length(encoder: PairEncoder, pair: LabelledPair) -> int:
    return encoder.row_length(pair.encoded, pair.chosen, pair.rejected)


@torch.inference_mode()
def _symmetric_logits(model: PairModel, encoder: PairEncoder, pairs: Sequence[LabelledPair]) -> NDArray[np.float64]:
    """Logit that the chosen text wins, both presentation orders averaged, [pairs]."""
    logits = np.zeros(len(pairs))
    lengths = [_row_length(encoder, pair) for pair in pairs]
    for batch in length_batches(lengths, max_tokens=HELD_OUT_TOKENS):
        forward = model([_row(encoder, pairs[i], chosen_first=True) for i in batch])
        backward = model([_row(encoder, pairs[i], chosen_first=False) for i in batch])
        logits[batch] = 0.5 * (forward - backward).double().cpu().numpy()
    return logits
