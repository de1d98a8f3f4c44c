"""All optimiser steps of a training in their order: gradient, step, record, checkpoint, and going on after a stop.

Left out: how a step's gradient comes about (`stepping.py` for policies, `oracle_learner.py` for oracles), what comes
before and after (`loop.py`, `oracle_training.py`). Floor 5.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import Parameter

from fairplay.errors import Preempted
from fairplay.objectives.anchors import State, plain
from fairplay.progress import progress
from fairplay.training.batches import ReferenceLogps
from fairplay.training.checkpoints import Trainee, newest_checkpoint, restore_checkpoint, save_checkpoint
from fairplay.training.distributed import whole
from fairplay.training.guard import check_finite
from fairplay.training.learning import Learns, Renews
from fairplay.training.metrics import MetricsFile, MetricWindow
from fairplay.training.optimizers import build_optimizer, build_schedule
from fairplay.training.plan import Step, StepPlan
from fairplay.training.settings import TrainingSettings
from fairplay.training.trackers import Tracker, open_trackers

logger = logging.getLogger(__name__)

MOST_TARGETS_TOO_FAR = 0.1


@dataclass
class Counters:
    """What changes from step to step besides weights and optimiser; plain numbers, saved in checkpoints."""

    step: int = 0
    logged_step: int = 0
    tokens: int = 0
    logged_tokens: int = 0
    seconds: float = 0.0
    logged_seconds: float = 0.0
    first_loss: float = 0.0
    last_loss: float = 0.0
    has_warned: bool = False
    objective_state: State = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """The fixed parts of one training."""

    learner: Learns
    trainee: Trainee
    parameters: list[Parameter]
    settings: TrainingSettings
    plan: StepPlan
    renewal: Renews
    fingerprint: str
    work: Path
    metrics: MetricsFile
    window: MetricWindow
    trackers: tuple[Tracker, ...]
    should_stop: Callable[[], bool]


def run_steps(
    learner: Learns,
    plan: StepPlan,
    renewal: Renews,
    settings: TrainingSettings,
    *,
    work: Path,
    fingerprint: str,
    should_stop: Callable[[], bool],
) -> Counters:
    """All optimiser steps, from the newest checkpoint if there is one.

    Args:
        learner: Computes gradients.
        plan: The steps.
        renewal: When the reference is renewed.
        settings: How to train.
        work: Folder of `metrics.jsonl` and `checkpoints/`.
        fingerprint: Identifies the training.
        should_stop: Polled after each step.

    Returns:
        The counters after the last step.

    Raises:
        DataError: If a loss or gradient is not finite, or a checkpoint belongs to another training.
        Preempted: If asked to stop; a checkpoint is saved before.
    """
    run = _open_run(learner, plan, renewal, settings, work=work, fingerprint=fingerprint, should_stop=should_stop)
    run, counters = _take_up(run)
    with ExitStack() as stack:
        for tracker in run.trackers:
            stack.callback(tracker.close)
        bar = stack.enter_context(progress("training", plan.num_steps))
        bar.advance(counters.step)
        for number, step in plan.steps(counters.step, plan.num_steps):
            if renewal.is_due(number):
                run = _renew(run, counters)
            _take_step(run, step, counters)
            bar.advance()
            if counters.step < plan.num_steps and learner.ranks.any(should_stop()):
                _save(run, counters)
                raise Preempted(
                    f"training stopped after step {counters.step} of {plan.num_steps}",
                    hint="run the same command again to resume",
                )
    return counters


def _open_run(
    learner: Learns,
    plan: StepPlan,
    renewal: Renews,
    settings: TrainingSettings,
    *,
    work: Path,
    fingerprint: str,
    should_stop: Callable[[], bool],
) -> _Run:
    parameters = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(parameters, settings)
    return _Run(
        learner=learner,
        trainee=Trainee(learner.model, optimizer, build_schedule(optimizer, settings, plan.num_steps)),
        parameters=parameters,
        settings=settings,
        plan=plan,
        renewal=renewal,
        fingerprint=fingerprint,
        work=work,
        metrics=MetricsFile(work / "metrics.jsonl"),
        window=MetricWindow(parameters[0].device),
        trackers=open_trackers(settings.report_to if learner.ranks.is_first else (), work, asdict(settings)),
        should_stop=should_stop,
    )


def _take_up(run: _Run) -> tuple[_Run, Counters]:
    """Go on from the newest checkpoint, or start at step 0; records of later steps are cut."""
    counters = Counters(objective_state=run.learner.initial_state)
    path = newest_checkpoint(run.work / "checkpoints")
    if path is not None:
        saved, state = restore_checkpoint(path, run.trainee, fingerprint=run.fingerprint)
        run.window.load(saved.pop("window"))
        counters = Counters(**saved)
        run = _with_reference(run, run.renewal.load(state, run.learner.reference, counters.step))
        logger.info("resumed after step %d of %d from %s", counters.step, run.plan.num_steps, path)
    if run.learner.ranks.is_first:
        run.metrics.cut_after(counters.step)
    return run, counters


def _renew(run: _Run, counters: Counters) -> _Run:
    """Renew the reference before the next step."""
    started = time.perf_counter()
    try:
        run = _with_reference(run, run.renewal.renewed(run.learner.model, counters.step))
    except Preempted:
        _save(run, counters)
        raise
    counters.seconds += time.perf_counter() - started
    return run


def _with_reference(run: _Run, reference: ReferenceLogps) -> _Run:
    return replace(run, learner=run.learner.with_reference(reference))


def _take_step(run: _Run, step: Step, counters: Counters) -> None:
    """One optimiser step, with its record and its checkpoint where they are due."""
    started = time.perf_counter()
    learner, trainee, settings = run.learner, run.trainee, run.settings
    outcome = learner.accumulate(
        step,
        number=counters.step,
        epoch=counters.step // run.plan.per_epoch,
        state=counters.objective_state,
        window=run.window,
    )
    grad_norm = whole(torch.nn.utils.get_total_norm([p.grad for p in run.parameters if p.grad is not None]))
    check_finite(outcome.loss, grad_norm, outcome.example_losses, step=counters.step + 1)
    if settings.max_grad_norm:
        torch.nn.utils.clip_grads_with_norm_(run.parameters, settings.max_grad_norm, grad_norm)
    rate = float(trainee.schedule.get_last_lr()[0])
    trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)
    trainee.schedule.step()
    counters.step += 1
    counters.tokens += outcome.num_tokens
    counters.objective_state = outcome.state
    counters.seconds += time.perf_counter() - started
    if counters.step % settings.logging_steps == 0 or counters.step == run.plan.num_steps:
        last = {"grad_norm": float(grad_norm), "learning_rate": rate, "epoch": counters.step / run.plan.per_epoch}
        _record(run, counters, last)
    if settings.save_steps and counters.step % settings.save_steps == 0 and counters.step < run.plan.num_steps:
        _save(run, counters)


def _record(run: _Run, counters: Counters, last: dict[str, float]) -> None:
    """Write the window's record and begin the next window."""
    means = run.window.means(counters.step - counters.logged_step)
    seconds = counters.seconds - counters.logged_seconds
    record = {
        "step": counters.step,
        **last,
        **means,
        "num_tokens": counters.tokens,
        "tokens_per_second": (counters.tokens - counters.logged_tokens) / max(seconds, 1e-9),
        "seconds": counters.seconds,
    }
    if run.learner.ranks.is_first:
        run.metrics.append(record)
    for tracker in run.trackers:
        tracker.log(record)
    logger.info("step %d of %d: loss %.6g", counters.step, run.plan.num_steps, means["loss"])
    _warn_of_targets(means, counters)
    counters.last_loss = means["loss"] or 0.0
    if not counters.logged_step:
        counters.first_loss = counters.last_loss
    counters.logged_step, counters.logged_tokens = counters.step, counters.tokens
    counters.logged_seconds = counters.seconds
    run.window.restart()


def _warn_of_targets(means: Mapping[str, float | None], counters: Counters) -> None:
    """Say once in a training that many targets of a regression ask for more than log-probs can give."""
    share = means.get("targets/too_far") or 0.0
    if counters.has_warned or share <= MOST_TARGETS_TOO_FAR:
        return
    counters.has_warned = True
    logger.warning(
        "step %d: %.0f %% of the targets are larger than -log pi(y), %.0f %% ask for a probability above 1; "
        "a smaller eta (a larger tau) brings them into reach",
        *(counters.step, 100 * share, 100 * (means["targets/unreachable"] or 0.0)),
    )


def _save(run: _Run, counters: Counters) -> None:
    saved = {**vars(counters), "objective_state": plain(counters.objective_state), "window": run.window.state()}
    if run.learner.ranks.is_first:
        run.metrics.flush()
    save_checkpoint(
        run.work / "checkpoints",
        counters.step,
        run.trainee,
        fingerprint=run.fingerprint,
        counters=saved,
        reference=run.renewal.state(run.learner.reference, counters.step),
    )
