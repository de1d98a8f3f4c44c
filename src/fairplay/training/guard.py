"""Guards of a training: data that would train wrongly, a start that is not the reference, numbers that are not finite.

Left out: what over-long examples are dropped for (`models.encoding`). Floor 5.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from fairplay.errors import DataError, SettingsError
from fairplay.logps import PreferenceBatch, StepTotals
from fairplay.models.head import DIVERGENCES, STATISTICS
from fairplay.objectives.evaluate import ObjectiveOutput, evaluate
from fairplay.objectives.objective import Objective
from fairplay.records import TrainingExample
from fairplay.training.batches import COLUMNS
from fairplay.training.distributed import current_ranks
from fairplay.training.frozen import STATISTICS_OF_FROZEN_MODELS
from fairplay.training.settings import TrainingSettings

# Largest difference of one token's log-prob between two batches of the same model, by the dtype of the computation.
# float32: rounding gives 1e-5 or less, dropout or a shifted position 1e-2 or more. bfloat16: up to 0.13 was seen.
LOGRATIO_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.05}
# The loss is a sum over tokens of such differences; this share of its size is allowed.
LOSS_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.3, torch.float16: 0.1}
_NUM_NAMED = 5
# Kinds of data that reach an objective from training.
_STATISTICS = {*STATISTICS, *DIVERGENCES, *STATISTICS_OF_FROZEN_MODELS}
_FED = {"reference", "pairs", "statistics", "ordered scores", "anchors", *COLUMNS}


def check_objective(objective: Objective, examples: Sequence[TrainingExample], settings: TrainingSettings) -> None:
    """Refuse an objective that this training can't feed, before anything is loaded.

    Raises:
        SettingsError: If a setting does not go with the objective, or it needs what training does not compute.
        DataError: If examples lack what it learns from; the first of them are named.
    """
    if settings.prompt_loss_weight and objective.terms:
        raise SettingsError(
            f"training.prompt_loss_weight: has no meaning for the objective `{objective.name}`",
            hint="it goes with `sft` only; set it to 0",
        )
    if settings.reference_schedule != "fixed" and not objective.needs_reference:
        raise SettingsError(
            f"training.reference_schedule: the objective `{objective.name}` has no reference to renew",
            hint="leave it `fixed`, or choose an objective with a reference",
        )
    if settings.reference_schedule != "fixed" and settings.use_peft and needs_live_reference(objective):
        raise SettingsError(
            f"training.reference_schedule: the objective `{objective.name}` reads the reference's whole distributions, "
            "and the policy's adapters can't become its weights",
            hint="leave it `fixed`, or set `use_peft: false`",
        )
    for need in sorted(objective.needs):
        kind, _, detail = need.partition(":")
        if kind not in _FED or (kind == "statistics" and detail not in _STATISTICS):
            raise SettingsError(
                f"the objective `{objective.name}` needs {need}, which training can't supply",
                hint="list the others with `fairplay objectives`",
            )
    if "anchors" in objective.needs and settings.examples_per_step == 1:
        raise SettingsError(
            f"training: the objective `{objective.name}` gives each prompt the response of another example of its "
            "step, and a step has only one",
            hint="set per_device_train_batch_size or gradient_accumulation_steps to 2 or more",
        )
    for need in sorted(objective.needs & {"pairs", *COLUMNS}):
        # Pairs label their two sides, so an objective over labels takes them too.
        sources = ("labels", "pairs") if need == "labels" else (need,)
        lacking = [example.id for example in examples if not any(getattr(example, name) for name in sources)]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(examples)} examples have no {need}: {named(lacking)}",
                hint=f"this objective learns from {need}; choose another one, or mend the data",
            )


def check_dropout(objective: Objective, settings: TrainingSettings, *, shares_adapters: bool) -> None:
    """Refuse dropout in adapters that the reference has too: its log-probs are kept from one reading without dropout.

    Fresh adapters are not in the reference, so there is nothing of it that could be dropped.

    Args:
        objective: What is learned.
        settings: How it is trained.
        shares_adapters: Whether the policy starts with adapters, and the reference is this very policy.

    Raises:
        SettingsError: If log-ratios would be noise where they should be 0.
    """
    if settings.lora_dropout and shares_adapters and objective.needs_reference:
        raise SettingsError(
            "training.lora_dropout: the reference has the policy's adapters, and its log-probs are kept from one "
            "reading without dropout, so what is dropped would look like learning",
            hint="set `lora_dropout: 0`, or take the model below the adapters as the reference",
        )


def needs_live_reference(objective: Objective) -> bool:
    """Whether the objective reads the reference's whole distributions, so that its model must stay in memory."""
    return any(need.partition(":")[2] in DIVERGENCES for need in objective.needs)


def check_start(
    objective: Objective,
    batch: PreferenceBatch,
    output: ObjectiveOutput,
    totals: StepTotals,
    *,
    seed: int,
    example_ids: Sequence[str],
    compute_dtype: torch.dtype,
    step: int = 1,
) -> None:
    """Where the policy is the reference, every log-ratio must be 0 and the loss its value there.

    Args:
        objective: What is learned.
        batch: The step's first micro-batch.
        output: The objective's value on it.
        totals: Sizes of the step.
        seed: The seed `output` was computed with.
        example_ids: The examples of the batch.
        compute_dtype: The dtype the model computes in, which sets the tolerance.
        step: Number of the step that is about to be taken, from 1.

    Raises:
        DataError: If it is not so; something other than learning moves the log-probs, such as dropout or a shifted
            position.
    """
    with torch.no_grad():
        gap = (batch.logps.policy - batch.logps.reference).abs().max()
        at_zero = replace(batch, logps=replace(batch.logps, reference=batch.logps.policy.detach()))
        expected = evaluate(objective, at_zero, totals, seed=seed).loss
        difference = (output.loss - expected).abs() / expected.abs().clamp(min=1.0)
    if not gap <= LOGRATIO_TOLERANCE[compute_dtype]:
        raise DataError(
            f"before step {step} the policy is the reference, but a token's log-ratio is {gap.item():.3g} nats, "
            f"not 0, in the examples {named(example_ids)}",
            hint="the model's log-probs depend on more than its input: dropout, noise, or how rows are batched",
        )
    if not difference <= LOSS_TOLERANCE[compute_dtype]:
        raise DataError(
            f"before step {step} the loss is {output.loss.item():.6g}, not f(0) = {expected.item():.6g}, "
            f"in the examples {named(example_ids)}",
            hint="the objective does not depend on the log-ratios alone, or the reference's log-probs are misplaced",
        )


def check_finite(
    step_loss: Tensor, grad_norm: Tensor, example_losses: Sequence[tuple[Sequence[str], Tensor]], *, step: int
) -> None:
    """Stop before an optimiser step whose loss or gradient is not finite; waits for the device once a step.

    Args:
        step_loss: Loss of the whole step, over all ranks, a scalar.
        grad_norm: Norm of its gradient before clipping, a scalar.
        example_losses: For each micro-batch of this rank the example ids and their losses, [examples].
        step: Number of the step that is about to be taken, from 1.

    Raises:
        DataError: Naming the examples; weights and checkpoints are as after the last good step.
    """
    if math.isfinite((step_loss + grad_norm).item()):
        return
    ids = [name for names, _ in example_losses for name in names]
    finite = [is_finite for _, losses in example_losses for is_finite in torch.isfinite(losses).tolist()]
    bad = [name for name, is_finite in zip(ids, finite, strict=True) if not is_finite]
    ranks = current_ranks()
    bad = list(dict.fromkeys(chain(*ranks.gather_objects(bad))))
    ids = list(dict.fromkeys(chain(*ranks.gather_objects(ids))))
    what = f"loss of {named(bad)}" if bad else f"gradient (norm {grad_norm.item()}) of the examples {named(ids)}"
    raise DataError(
        f"step {step}: not finite: the {what}",
        hint="nothing was changed by this step; lower `learning_rate`, or look at these examples with `fairplay check`",
    )


def named(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    rest = len(ids) - _NUM_NAMED
    return ", ".join(ids[:_NUM_NAMED]) + (f" and {rest} more" if rest > 0 else "")
