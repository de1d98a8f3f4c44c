"""The one training loop: examples in, a policy in Hugging Face format out, the same bytes whatever interrupts it.

Left out: the steps themselves (`steps.py`, `stepping.py`), intervals over the held-out pairs (`evaluation/`), starting
several processes (`crew.py`); where they are, all of them call this, and the first one writes. Floor 5.

    work/metrics.jsonl                   one record a logging step
    work/reference_logps.safetensors     token log-probs of the reference and of frozen models
    work/processes.json                  how many processes it was begun with, which decides what a step is
    work/checkpoints/step-N/             the newest two; removed at the end
    work/summary.json                    written last: the training is finished
    output/                              the policy
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from fairplay.models.adapters import has_adapters
from fairplay.models.encoding import EncodedExample
from fairplay.models.loading import Policy, load_policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.objectives.objective import Objective
from fairplay.records import TrainingExample
from fairplay.training.batches import TrainingSet
from fairplay.training.begun import begun_training
from fairplay.training.distributed import current_ranks, shard, unsharded
from fairplay.training.encoded_data import EncodedData, encode_data
from fairplay.training.fingerprint import training_fingerprint
from fairplay.training.frozen import ANCHOR, NEGATIVE, POSITIVE, frozen_models, token_weights
from fairplay.training.guard import check_dropout, check_objective, needs_live_reference
from fairplay.training.held_out import held_out_pairs
from fairplay.training.memory import estimate_memory, largest_micro_batch, log_estimate, memory_report
from fairplay.training.plan import StepPlan, longest_row, plan_division, plan_steps
from fairplay.training.reading import Reading
from fairplay.training.reference import LogpsFile, Scorer
from fairplay.training.reference_rows import reference_rows, used_examples
from fairplay.training.renewal import Mixture, PolicyItself, Renewal, Successor, renewal_period
from fairplay.training.room import MemoryWatch, check_room, free_bytes
from fairplay.training.settings import ImportanceSettings, TrainingSettings
from fairplay.training.start import StartLogps, StartRows, TrainingModels, start_logps, training_models
from fairplay.training.stepping import Learner
from fairplay.training.steps import Counters, run_steps
from fairplay.training.summary import HeldOutPairs, TrainingSummary, read_summary, write_summary
from fairplay.training.trainable import adapter_settings, check_settings, make_trainable

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
    identity = partial(
        training_fingerprint,
        data,
        models=models,
        importance=importance,
        objective=objective,
        model_settings=model_settings,
        seed=seed,
    )
    begun = begun_training(work / "processes.json", settings, ranks, lambda found: identity(settings=found))
    settings, fingerprint = begun.settings, begun.fingerprint
    finished = read_summary(work / "summary.json", fingerprint)
    if finished is not None and output.is_dir():
        if ranks.is_first:  # a kill may have come between summary and clean-up
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return finished
    plan = plan_steps(data.train, settings, seed=seed)
    period = renewal_period(plan, settings)
    begun.write(work / "processes.json")
    reading = Reading(longest=max(map(longest_row, (*data.train, *data.held_out))), bf16=settings.bf16)
    scorer = Scorer(settings.per_device_train_batch_size, reading, should_stop)
    load = partial(load_policy, model, model_settings, adapter=adapter_settings(settings))
    policy = load()
    shares_adapters = has_adapters(policy.model) and models.starts_at_reference
    check_dropout(objective, settings, shares_adapters=shares_adapters)
    layout = reading.layout(policy.model)
    division = plan_division(data.train, settings, num_ranks=ranks.size, layout=layout)
    asked = StartRows(
        reference=reference_rows(objective, data.train, plan, 0, period),
        frozen=used_examples(data.train, plan, 0, plan.num_steps) if frozen else {},
        held_out=data.held_out,
    )
    file = LogpsFile(work / "reference_logps.safetensors", fingerprint)
    start = start_logps(policy, models, asked, scorer, file, loading=model_settings)
    policy = make_trainable(policy, settings, seed=seed)
    live = _live_reference(policy, models, objective, settings, model_settings)
    copies = settings.dp_replicate_size if ranks.size > 1 else 1
    second = None if live is policy.model else live
    batch, most = largest_micro_batch(plan, division, data.train, layout=layout)
    estimate = estimate_memory(
        *(policy.model, settings, batch),
        layout=layout,
        reference=second,
        num_ranks=ranks.size // copies,
        accumulates=most > 1,
    )
    with ranks.same_fate():
        check_room(estimate, free_bytes(policy.model.device), settings, model_settings)
    shard(policy.model, ranks, copies=copies)
    starts_at_reference = models.starts_at_reference and objective.needs_reference
    learner = Learner(
        model=policy.model,
        data=_training_set(data, start, asked.frozen, settings, importance),
        objective=objective,
        seed=seed,
        reading=reading,
        has_dropout=settings.lora_dropout > 0,
        steps_at_reference=_steps_at_reference(plan, period, settings, from_start=starts_at_reference),
        divide=division.shares,
        ranks=ranks,
        live_reference=live,
    )
    successor: Successor = PolicyItself()
    if second is not None and settings.reference_schedule != "fixed":
        successor = Mixture(second, policy.model, settings.reference_mixup_alpha)
    renewal = Renewal(period, partial(reference_rows, objective, data.train, plan), scorer, successor)
    log_estimate(estimate)
    watch = MemoryWatch(policy.model.device, held=estimate.weights)
    counters = run_steps(learner, plan, renewal, settings, work=work, fingerprint=fingerprint, should_stop=should_stop)
    memory = memory_report(estimate, watch.peak())
    after = scorer.token_logps(policy.model.train(mode=False), data.held_out, "held-out log-probs")
    finished_policy = unsharded(policy, lambda: make_trainable(load(), settings, seed=seed))
    summary = _summary(data, counters, memory, held_out_pairs(data, start, after))
    if ranks.is_first:
        save_policy(finished_policy, output, merge_adapters=settings.merge_adapters)
        write_summary(work / "summary.json", summary, fingerprint)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    ranks.barrier()
    return summary


def _live_reference(
    policy: Policy,
    models: TrainingModels,
    objective: Objective,
    settings: TrainingSettings,
    model_settings: ModelSettings,
) -> PreTrainedModel | None:
    """The reference's model where it must stay in memory; the policy's own stands for what it is without adapters."""
    if settings.reference_mixup_alpha == 1 and not needs_live_reference(objective):
        return None
    return policy.model if models.is_within_policy else load_policy(models.reference, model_settings).model


def _training_set(
    data: EncodedData,
    start: StartLogps,
    examples: Mapping[int, EncodedExample],
    settings: TrainingSettings,
    importance: ImportanceSettings,
) -> TrainingSet:
    """The examples with all that is known of them before the first step."""
    frozen = start.frozen
    weights = {}
    if POSITIVE in frozen:
        weights = token_weights(examples, frozen[POSITIVE], frozen[NEGATIVE], importance)
    return TrainingSet(
        examples=data.train,
        reference=start.reference,
        prompt_loss_weight=settings.prompt_loss_weight,
        start_logps=start.responses,
        anchor=frozen.get(ANCHOR, {}),
        importance=weights,
    )


def _steps_at_reference(plan: StepPlan, period: int, settings: TrainingSettings, *, from_start: bool) -> frozenset[int]:
    """Steps before which the policy is the reference: the first, and those after a renewal that takes it whole."""
    steps = {0} if from_start else set()
    if settings.reference_mixup_alpha == 1:
        steps |= set(range(period, plan.num_steps, period))
    return frozenset(steps)


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
