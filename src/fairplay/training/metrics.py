"""Metrics of training under the names that users of preference training know, and the file `metrics.jsonl`.

Left out: trackers (`trackers.py`), win rates (`evaluation/`). Sums stay on the device between logging steps, so a step
never waits for a number. Floor 5.

    loss                    mean over the window's optimiser steps
    rewards/chosen, ...     mean over pairs: beta * link(log-ratio), as the objective defines it
    rewards/accuracies      share of pairs with a positive margin, ties half; of an oracle's training the margin is the
                            logit that the chosen response wins
    logps/*, logratios/*    summed over a response's tokens, nats; length/* in tokens
    logps/chosen_drift      change of the chosen responses' log-prob since the start, nats, below 0 where they have
                            become less likely ("displacement", arXiv:2402.13228, 2410.08847); where the start is asked
                            for them anyway, as reference or anchor (otherwise see how `logps/chosen` goes)
    length/margin_slope     slope of the reward margin over (length of chosen - length of rejected), per token
    length/margin_r2        share of the margins' variance that this explains
    targets/ratio           of regression objectives: sum of |value| over sum of |target|, near 1 where targets are met
    targets/too_far         share of targets with |target| > -log pi_ref(y); a smaller eta (larger tau) brings them near
    targets/unreachable     share of targets > -log pi_ref(y), which ask for a probability above 1; the rest of
                            `too_far` asks for a fall that is possible, but takes the policy apart
    logps/responses, ...    mean over the responses that are learned from, where there are no pairs
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, to_device
from fairplay.objectives.comparisons import learned_responses
from fairplay.objectives.evaluate import ObjectiveOutput
from fairplay.objectives.regression import Regression
from fairplay.storage.atomic import disk_errors, fsync_file, write_atomic
from fairplay.training.distributed import current_ranks

Record = dict[str, float | int | None]

_PER_PAIR = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "logratios/chosen",
    "logratios/rejected",
    "length/chosen",
    "length/rejected",
)
_OF_POLICIES = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
_PER_RESPONSE = ("logps/responses", "length/responses")
_PRODUCTS = ("gap", "gap_squared", "gap_margin", "margin_squared")
_COUNTS = ("loss", "pairs", "scored", "responses", "compared", "drifted", "targets")
_OTHERS = ("logps/chosen_drift", "value_size", "target_size", "targets/too_far", "targets/unreachable")
_NAMES = (*_COUNTS, *_PER_PAIR, *_PER_RESPONSE, *_PRODUCTS, *_OTHERS)


class MetricWindow:
    """Sums over the optimiser steps since the last record; one small tensor on the device."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(_NAMES), dtype=torch.float64, device=device)
        self._places: dict[tuple[str, ...], Tensor] = {}

    def add(self, output: ObjectiveOutput, batch: PreferenceBatch, targets: Regression | None) -> None:
        """Count one micro-batch; nothing is moved off the device.

        Args:
            output: The objective's value on the batch.
            batch: Its log-probs and preferences; the column "start_logps", if it is there, for the drift since then.
            targets: What a regression objective asks for on this batch.
        """
        with torch.no_grad():
            self._count(_of_pairs(output, batch) if len(batch.pairs) else _of_responses(batch))
            if targets is not None:
                self._count(_of_targets(targets))
            self.sums[_NAMES.index("loss")] += output.loss.detach()

    def _count(self, values: Mapping[str, Tensor]) -> None:
        """Add up vectors by name, all of one size and dtype; few operations, since a step pays for each."""
        names = tuple(values)
        if names not in self._places:
            places = np.array([_NAMES.index(name) for name in names])
            self._places[names] = to_device(places, self.sums.device)
        sums = torch.stack(list(values.values())).sum(1, dtype=torch.float64)
        self.sums.index_add_(0, self._places[names], sums)

    def add_verdicts(self, loss: Tensor, margins: Tensor, lengths: Tensor) -> None:
        """Count one micro-batch of an oracle's training.

        Args:
            loss: Its share of the step's loss, a scalar.
            margins: Logit that the chosen response beats the rejected one, [pairs].
            lengths: Tokens of the chosen and of the rejected response, [pairs, 2].
        """
        with torch.no_grad():
            self._count(_margin_values(margins.detach(), *lengths.to(margins.dtype).unbind(1)))
            self.sums[_NAMES.index("loss")] += loss.detach()

    def restart(self) -> None:
        """Begin the next window."""
        self.sums.zero_()

    def state(self) -> list[float]:
        """The sums over all ranks as plain numbers, for a record or a checkpoint."""
        values: list[float] = current_ranks().sum(self.sums).tolist()
        return values

    def load(self, state: Sequence[float]) -> None:
        """Go on from the sums of a checkpoint, which the first rank takes over from all."""
        if current_ranks().is_first:
            self.sums.copy_(torch.tensor(state, dtype=torch.float64))

    def means(self, num_steps: int) -> dict[str, float | None]:
        """The window's means by name; waits for the device.

        Args:
            num_steps: Optimiser steps in the window.
        """
        sums = dict(zip(_NAMES, self.state(), strict=True))
        record: dict[str, float | None] = {"loss": sums["loss"] / num_steps}
        if pairs := sums["pairs"]:
            missing = [n for n in _PER_PAIR if n.startswith("logratios/")] if not sums["compared"] else []
            missing += _OF_POLICIES if not sums["scored"] else ()
            names = [n for n in _PER_PAIR if n not in missing]
            record |= {name: sums[name] / pairs for name in names}
            record["length/margin_slope"], record["length/margin_r2"] = _length_dependence(sums)
            if sums["drifted"]:
                record["logps/chosen_drift"] = sums["logps/chosen_drift"] / sums["drifted"]
        elif sums["responses"]:
            record |= {name: sums[name] / sums["responses"] for name in _PER_RESPONSE}
        if num_targets := sums["targets"]:
            size = sums["target_size"]
            record["targets/ratio"] = sums["value_size"] / size if size else None
            record |= {name: sums[name] / num_targets for name in ("targets/too_far", "targets/unreachable")}
        return {name: value if value is not None and math.isfinite(value) else None for name, value in record.items()}


def _of_pairs(output: ObjectiveOutput, batch: PreferenceBatch) -> dict[str, Tensor]:
    """Values of the pairs of one micro-batch, [pairs] each."""
    logps = batch.logps
    policy = logps.sum_per_response(logps.policy.detach())
    of_responses = [output.rewards.to(policy.dtype), policy, logps.lengths().to(policy.dtype)]
    if logps.has_reference:
        of_responses.append(policy - logps.sum_per_response(logps.reference))
    # Two look-ups for all: [values, pairs] of the chosen ones, then of the rejected ones.
    both = torch.stack(of_responses)[:, batch.pairs.T]
    chosen, rejected = both[:, 0].unbind(), both[:, 1].unbind()
    per_pair = {
        **_margin_values(chosen[0] - rejected[0], chosen[2], rejected[2]),
        "rewards/chosen": chosen[0],
        "rewards/rejected": rejected[0],
        "logps/chosen": chosen[1],
        "logps/rejected": rejected[1],
    }
    per_pair["scored"] = per_pair["pairs"]
    if "start_logps" in batch.columns:
        per_pair["logps/chosen_drift"] = chosen[1] - batch.columns["start_logps"][batch.pairs[:, 0]]
        per_pair["drifted"] = per_pair["pairs"]
    if logps.has_reference:
        per_pair["logratios/chosen"], per_pair["logratios/rejected"] = chosen[3], rejected[3]
        per_pair["compared"] = per_pair["pairs"]
    return per_pair


def _margin_values(margins: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor) -> dict[str, Tensor]:
    """What margins and lengths say of each pair, [pairs] each."""
    gaps = chosen_lengths - rejected_lengths
    return {
        "rewards/accuracies": (margins.sign() + 1) / 2,
        "rewards/margins": margins,
        "length/chosen": chosen_lengths,
        "length/rejected": rejected_lengths,
        "pairs": torch.ones_like(gaps),
        "gap": gaps,
        "gap_squared": gaps.square(),
        "gap_margin": gaps * margins,
        "margin_squared": margins.square(),
    }


def _of_responses(batch: PreferenceBatch) -> dict[str, Tensor]:
    policy = batch.logps.sum_per_response(batch.logps.policy.detach())
    learned = to_device(learned_responses(batch.structure), policy.device)
    lengths = batch.logps.lengths()[learned].to(policy.dtype)
    return {"logps/responses": policy[learned], "length/responses": lengths, "responses": torch.ones_like(lengths)}


def _of_targets(targets: Regression) -> dict[str, Tensor]:
    sizes = targets.targets.abs()
    return {
        "targets": torch.ones_like(sizes),
        "value_size": targets.values.abs(),
        "target_size": sizes,
        "targets/too_far": (sizes > targets.room).to(sizes.dtype),
        "targets/unreachable": (targets.targets > targets.room).to(sizes.dtype),
    }


def _length_dependence(sums: dict[str, float]) -> tuple[float | None, float | None]:
    """Slope and r^2 of the margin over the length gap, by least squares; None where all of one are equal."""
    pairs = sums["pairs"]
    of_gaps = sums["gap_squared"] - sums["gap"] ** 2 / pairs
    of_margins = sums["margin_squared"] - sums["rewards/margins"] ** 2 / pairs
    covariance = sums["gap_margin"] - sums["gap"] * sums["rewards/margins"] / pairs
    if of_gaps <= 1e-9 * pairs:
        return None, None
    # Below this the margins' variance is rounding of the sums.
    is_flat = of_margins <= 1e-12 * sums["margin_squared"]
    return covariance / of_gaps, None if is_flat else min(covariance**2 / (of_gaps * of_margins), 1.0)


class MetricsFile:
    """`metrics.jsonl`: one record a logging step, written with one write a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_after(self, step: int) -> int:
        """Remove records after `step` and a torn last line, as after a kill.

        Returns:
            Number of lines removed.
        """
        if not self.path.exists():
            return 0
        lines = self.path.read_bytes().split(b"\n")
        kept = [line for line in lines[:-1] if (known := _step(line)) is not None and known <= step]
        removed = len(lines) - 1 - len(kept) + bool(lines[-1])
        if removed:
            write_atomic(self.path, b"".join(line + b"\n" for line in kept))
        return removed

    def flush(self) -> None:
        """Make what was written survive a power cut; before a checkpoint, which must not know of more than the file."""
        if self.path.exists():
            fsync_file(self.path)

    def append(self, record: Record) -> None:
        """Add one record at the end.

        Raises:
            ResourceError: If the disk is full or not writable.
        """
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)


def _step(line: bytes) -> int | None:
    try:
        step: int = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step
