"""Training an oracle on labelled pairs: the one loop's steps, a temperature fitted on pairs kept apart, a folder.

Killed anywhere and called again, it goes on from the newest checkpoint and ends with the same bytes (float32 on a CPU).
Left out: which pairs are kept apart and what the verdicts on them are worth (the pipeline, `preferences/`). Floor 5.

    work/metrics.jsonl  work/checkpoints/  work/summary.json (written last)      output/  the oracle
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch

from fairplay.errors import DataError, SettingsError
from fairplay.models.loading import configure_threads
from fairplay.models.modes import evaluating
from fairplay.models.settings import ModelSettings
from fairplay.oracles.batching import length_batches
from fairplay.preferences.calibration import fit_temperature
from fairplay.progress import progress
from fairplay.records import Dropped, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.digests import content_digest, sha256_value
from fairplay.training.distributed import current_ranks
from fairplay.training.fingerprint import description
from fairplay.training.oracle_learner import NeverRenewed, OracleLearner
from fairplay.training.oracle_pairs import EncodedPair, TrainableOracle, different_pairs
from fairplay.training.oracle_settings import OracleTrainingSettings
from fairplay.training.oracle_starts import trainable_oracle
from fairplay.training.oracle_summary import OracleTrainingSummary, Verdicts, read_summary, write_summary
from fairplay.training.plan import StepPlan, steps_per_epoch
from fairplay.training.steps import Counters, run_steps
from fairplay.training.trainable import check_settings

logger = logging.getLogger(__name__)

VERDICT_TOKENS = 8192  # of one forward pass over pairs kept apart
PARTS = ("learnt from", "for calibration", "held out")

Pairs = Sequence[EncodedPair]


def train_oracle(
    source: str,
    pairs: Sequence[TrainingExample],
    settings: OracleTrainingSettings,
    output: Path,
    *,
    calibration: Sequence[TrainingExample],
    held_out: Sequence[TrainingExample],
    work: Path,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> OracleTrainingSummary:
    """Train an oracle.

    Args:
        source: Folder or hub id of what it starts from.
        pairs: Examples with pairs to learn from; pairs of equal texts are dropped and counted.
        settings: Its kind, and how to train.
        output: Folder of the finished oracle; appears only when it is complete.
        calibration: Pairs of other prompts, on which the temperature is fitted.
        held_out: Pairs of yet other prompts, which nothing is fitted to.
        work: Folder of metrics and checkpoints.
        seed: Decides the weights of a fresh head, the order of the pairs, and who is shown first.
        should_stop: Polled after each optimiser step; true saves a checkpoint and stops.

    Returns:
        What happened, with the verdicts on the pairs kept apart; the same again, at once, if it has finished before.

    Raises:
        SettingsError: If several processes were started, or settings don't go with each other.
        DataError: If a part has no pair of different texts, nothing can be loaded, or a loss is not finite.
        Preempted: If asked to stop; the same call goes on from there.
    """
    if current_ranks().size > 1:
        raise SettingsError("an oracle learns in one process", hint="start the command without torchrun")
    check_settings(settings.steps(), ModelSettings(dtype=settings.dtype))
    parts, dropped = _parts([pairs, calibration, held_out])
    oracle = trainable_oracle(source, settings, seed=seed)
    configure_threads(sum(parameter.numel() for parameter in oracle.model.parameters()))
    learnt, fitted, kept_apart = (oracle.encode(part) for part in parts)
    fingerprint = _fingerprint([learnt, fitted, kept_apart], source, settings, seed)
    finished = read_summary(work / "summary.json", fingerprint)
    if finished is not None and output.is_dir():
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return finished
    counters = _learn(oracle, learnt, settings, seed, work=work, fingerprint=fingerprint, should_stop=should_stop)
    with evaluating(oracle.model), torch.inference_mode():
        of_calibration = _verdicts(oracle, fitted, "verdicts for calibration")
        of_held_out = _verdicts(oracle, kept_apart, "verdicts on held-out pairs")
    summary = OracleTrainingSummary(
        steps=counters.step,
        num_pairs=len(learnt),
        dropped=dropped,
        num_truncated=sum(pair.truncated for pair in (*learnt, *fitted, *kept_apart)),
        tokens=counters.tokens,
        first_loss=counters.first_loss,
        last_loss=counters.last_loss,
        seconds=counters.seconds,
        temperature=fit_temperature(of_calibration.winner_logits()),
        calibration=of_calibration,
        held_out=of_held_out,
    )
    oracle.save(output, temperature=summary.temperature)
    write_summary(work / "summary.json", summary, fingerprint)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    logger.info("%s: %d steps, temperature %.3f", output, summary.steps, summary.temperature)
    return summary


def _learn(
    oracle: TrainableOracle,
    pairs: Pairs,
    settings: OracleTrainingSettings,
    seed: int,
    *,
    work: Path,
    fingerprint: str,
    should_stop: Callable[[], bool],
) -> Counters:
    """All steps, or those that are left of them."""
    work.mkdir(parents=True, exist_ok=True)
    if settings.gradient_checkpointing:
        oracle.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    learner = OracleLearner(
        oracle, pairs, stable_seed(seed, "oracle"), settings.length_penalty, settings.label_smoothing, settings.bf16
    )
    with torch.random.fork_rng():
        return run_steps(
            learner,
            _plan(pairs, settings, seed),
            NeverRenewed(),
            settings.steps(),
            work=work,
            fingerprint=fingerprint,
            should_stop=should_stop,
        )


def _parts(parts: Sequence[Sequence[TrainingExample]]) -> tuple[list[list[TrainingExample]], tuple[Dropped, ...]]:
    """The pairs of each part; refuses a part without any, and a prompt in two of them."""
    found = [different_pairs(part) for part in parts]
    for name, (kept, _) in zip(PARTS, found, strict=True):
        if not kept:
            raise DataError(
                f"no pair of two different texts is {name}",
                hint="it takes pairs to learn from, others to fit the temperature on, and others to test it on",
            )
    prompts = [{pair.prompt.messages for pair in kept} for kept, _ in found]
    if shared := (prompts[0] & prompts[1]) | (prompts[0] & prompts[2]) | (prompts[1] & prompts[2]):
        raise DataError(f"{len(shared)} prompts are in two of the parts {', '.join(PARTS)}", hint="split by prompt")
    return [kept for kept, _ in found], tuple(drop for _, drops in found for drop in drops)


def _plan(pairs: Pairs, settings: OracleTrainingSettings, seed: int) -> StepPlan:
    sizes = (settings.per_device_train_batch_size, settings.gradient_accumulation_steps)
    per_epoch = steps_per_epoch(len(pairs), batch_size=sizes[0], accumulation=sizes[1])
    num_steps = settings.max_steps if settings.max_steps > 0 else ceil(settings.num_train_epochs * per_epoch)
    return StepPlan(tuple(pair.longest_row for pair in pairs), *sizes, num_steps, seed)


def _verdicts(oracle: TrainableOracle, pairs: Pairs, what: str) -> Verdicts:
    """The trained oracle's verdict on each pair, in both presentation orders, [pairs]."""
    both = np.zeros((2, len(pairs)))
    with progress(what, len(pairs)) as counter:
        for batch in length_batches([pair.longest_row for pair in pairs], max_tokens=VERDICT_TOKENS):
            some = [pairs[index] for index in batch]
            for place, chosen_first in enumerate((True, False) if oracle.compares else (True,)):
                logits = oracle.logits(some, [chosen_first] * len(some))
                both[place, batch] = logits.double().cpu().numpy()
            counter.advance(len(batch))
    if not oracle.compares:
        both[1] = both[0]
    if not np.isfinite(both).all():
        bad = next(pair.id for pair, column in zip(pairs, both.T, strict=True) if not np.isfinite(column).all())
        raise DataError(f"pair {bad}: the oracle's logit is not finite", hint="lower the learning rate")
    return Verdicts(
        pair_ids=tuple(pair.id for pair in pairs),
        prompt_ids=tuple(pair.prompt_id for pair in pairs),
        chosen_first=tuple(both[0].tolist()),
        chosen_second=tuple(both[1].tolist()),
        length_gaps=tuple(pair.lengths[0] - pair.lengths[1] for pair in pairs),
    )


def _fingerprint(parts: Sequence[Pairs], source: str, settings: OracleTrainingSettings, seed: int) -> str:
    """What identifies a training: equal calls have the same bytes as a result, and may go on from each other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(len(part)).encode())
        for pair in part:
            digest.update(repr((pair.id, pair.prompt_id, pair.ids)).encode())
    return sha256_value(
        {
            "pairs": digest.hexdigest(),
            "source": content_digest(source),
            "settings": description(replace(settings, report_to=(), save_steps=0)),
            "seed": seed,
        }
    )
