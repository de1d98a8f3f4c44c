"""The one training loop: examples in, a policy in Hugging Face format out, the same bytes whatever interrupts it.

Left out: what the first step needs (`preparing.py`), the steps themselves (`steps.py`, `stepping.py`), intervals over
the held-out pairs (`evaluation/`), starting several processes (`crew.py`); where they are, all of them call this, and
the first one writes. Floor 5.

    work/metrics.jsonl                   one record a logging step
    work/reference_logps.safetensors     token log-probs of the reference and of frozen models
    work/processes.json                  how many processes it was begun with, which decides what a step is
    work/checkpoints/step-N/             the newest two; removed at the end
    work/summary.json                    written last: the training is finished
    output/                              the policy
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.objectives.objective import Objective
from fairplay.records import TrainingExample
from fairplay.training.begun import begun_training
from fairplay.training.distributed import current_ranks, unsharded
from fairplay.training.encoded_data import EncodedData, encode_data
from fairplay.training.frozen import frozen_models
from fairplay.training.guard import check_objective
from fairplay.training.held_out import held_out_pairs
from fairplay.training.memory import log_estimate, memory_report
from fairplay.training.plan import plan_steps
from fairplay.training.preparing import Task, prepare
from fairplay.training.reference import LogpsFile
from fairplay.training.renewal import renewal_period
from fairplay.training.room import MemoryWatch
from fairplay.training.settings import ImportanceSettings, TrainingSettings
from fairplay.training.start import training_models
from fairplay.training.steps import Counters, run_steps
from fairplay.training.summary import HeldOutPairs, TrainingSummary, read_summary, write_summary
from fairplay.training.trainable import check_settings, make_trainable

NO_IMPORTANCE = ImportanceSettings()


def _never() -> bool:
    return False


def train(
    *,
    model: str,
    reference: str,
    examples: Sequence[TrainingExample],
    objective: Objective,
    settings: TrainingSettings,
    model_settings: ModelSettings,
    output: Path,
    work: Path,
    seed: int,
    eval_examples: Sequence[TrainingExample] = (),
    anchor: str = "",
    importance: ImportanceSettings = NO_IMPORTANCE,
    should_stop: Callable[[], bool] = _never,
) -> TrainingSummary:
    """Train a policy on examples with an objective.

    Killed anywhere and called again with the same arguments, it goes on from the newest checkpoint and ends with
    the same bytes (float32 on a CPU).

    Args:
        model: The starting policy: a folder in Hugging Face format, or a hub id.
        reference: The reference policy; where it is the same as `model`, or as `model` without the adapters that are
            trained, no second one is loaded.
        examples: What is learned from; over-long ones are dropped and counted.
        objective: What is minimised.
        settings: How to train.
        model_settings: How models are loaded.
        output: Folder of the trained policy; appears only when it is complete.
        work: Folder of metrics, checkpoints and the reference's log-probs.
        seed: The run's seed; order and draws are hashed from it.
        eval_examples: Held-out pairs, whose margins before and after training are handed back.
        anchor: The anchor model that some objectives are held to besides the reference; the others take none.
        importance: The two models whose log-probs weigh tokens, for objectives that read such weights.
        should_stop: Polled after each optimiser step, and while log-probs are computed; true saves a checkpoint
            where there is something to save, and stops.

    Returns:
        What happened; the same again, at once, if this training has finished before.

    Raises:
        SettingsError: If settings do not go with the objective, the model or each other.
        DataError: If there is nothing to train on, examples lack what the objective needs, the start is not the
            reference, or a loss or gradient is not finite.
        ResourceError: If an optional package is missing, memory can't be enough, or the disk is full.
        Preempted: If asked to stop; the same call goes on from there.
    """
    ranks = current_ranks()
    check_settings(settings, model_settings)
    check_objective(objective, examples, settings)
    frozen = frozen_models(objective, anchor=anchor, importance=importance)
    models = training_models(model, reference, frozen, use_peft=settings.use_peft)
    data = encode_data(model, examples, eval_examples, settings, revision=model_settings.revision)
    task = Task(models, data, objective, settings, model_settings, importance, seed)
    begun = begun_training(work / "processes.json", settings, ranks, task.fingerprint)
    finished = read_summary(work / "summary.json", begun.fingerprint)
    if finished is not None and output.is_dir():
        if ranks.is_first:  # a kill may have come between summary and clean-up
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return finished
    task = replace(task, settings=begun.settings)
    plan = plan_steps(data.train, task.settings, seed=seed)
    period = renewal_period(plan, task.settings)
    begun.write(work / "processes.json")
    file = LogpsFile(work / "reference_logps.safetensors", begun.fingerprint)
    ready = prepare(task, plan, period, file=file, ranks=ranks, should_stop=should_stop)
    log_estimate(ready.estimate)
    watch = MemoryWatch(ready.policy.model.device, held=ready.estimate.weights)
    counters = run_steps(
        *(ready.learner, plan, ready.renewal, task.settings),
        work=work,
        fingerprint=begun.fingerprint,
        should_stop=should_stop,
    )
    memory = memory_report(ready.estimate, watch.peak())
    after = ready.scorer.token_logps(ready.policy.model.train(mode=False), data.held_out, "held-out log-probs")
    policy = unsharded(ready.policy, lambda: make_trainable(task.load(), task.settings, seed=seed))
    summary = _summary(data, counters, memory, held_out_pairs(data, ready.start, after))
    if ranks.is_first:
        save_policy(policy, output, merge_adapters=settings.merge_adapters)
        write_summary(work / "summary.json", summary, begun.fingerprint)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    ranks.barrier()
    return summary


def _summary(
    data: EncodedData, counters: Counters, memory: Mapping[str, int | None], held_out: HeldOutPairs
) -> TrainingSummary:
    return TrainingSummary(
        steps=counters.step,
        examples=len(data.train),
        dropped=data.train_dropped,
        tokens=counters.tokens,
        first_loss=counters.first_loss,
        last_loss=counters.last_loss,
        seconds=counters.seconds,
        memory=memory,
        held_out=held_out,
    )
