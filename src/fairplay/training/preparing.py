"""What is to be trained, and all that its first step needs: policy, log-probs before it, learner, renewals, memory.

Left out: whether it was begun or finished before, and the steps (`loop.py`). Floor 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedModel

from fairplay.models.adapters import has_adapters
from fairplay.models.encoding import EncodedExample
from fairplay.models.free_memory import free_bytes
from fairplay.models.loading import Policy, load_policy
from fairplay.models.settings import ModelSettings
from fairplay.objectives.objective import Objective
from fairplay.training.batches import TrainingSet
from fairplay.training.distributed import Ranks, shard
from fairplay.training.encoded_data import EncodedData
from fairplay.training.fingerprint import training_fingerprint
from fairplay.training.frozen import ANCHOR, NEGATIVE, POSITIVE, token_weights
from fairplay.training.guard import check_dropout, needs_live_reference
from fairplay.training.memory import MemoryEstimate, estimate_memory, largest_micro_batch
from fairplay.training.plan import StepPlan, longest_row, plan_division
from fairplay.training.reading import Reading
from fairplay.training.reference import LogpsFile, Scorer
from fairplay.training.reference_rows import reference_rows, used_examples
from fairplay.training.renewal import Mixture, PolicyItself, Renewal, Successor
from fairplay.training.room import check_room
from fairplay.training.settings import ImportanceSettings, TrainingSettings
from fairplay.training.start import StartLogps, StartRows, TrainingModels, start_logps
from fairplay.training.stepping import Learner
from fairplay.training.trainable import adapter_settings, make_trainable


@dataclass(frozen=True)
class Task:
    """What is to be trained, and how; no weights are loaded yet.

    Attributes:
        models: The starting policy, the reference, and others that are read.
        data: What is learned from, and held-out pairs.
        objective: What is minimised.
        settings: How to train.
        model_settings: How models are loaded.
        importance: The two models whose log-probs weigh tokens.
        seed: The run's seed.
    """

    models: TrainingModels
    data: EncodedData
    objective: Objective
    settings: TrainingSettings
    model_settings: ModelSettings
    importance: ImportanceSettings
    seed: int

    def fingerprint(self, settings: TrainingSettings) -> str:
        """What identifies the training, were it with such settings."""
        return training_fingerprint(
            self.data,
            models=self.models,
            importance=self.importance,
            objective=self.objective,
            settings=settings,
            model_settings=self.model_settings,
            seed=self.seed,
        )

    def load(self) -> Policy:
        """The starting policy."""
        return load_policy(self.models.policy, self.model_settings, adapter=adapter_settings(self.settings))


@dataclass(frozen=True)
class Ready:
    """All that the first step needs.

    Attributes:
        policy: What learns, divided over the processes.
        start: Log-probs before the first step.
        scorer: How log-probs are computed without a gradient.
        learner: Takes the steps.
        renewal: Renews the reference.
        estimate: Memory that the steps should take.
    """

    policy: Policy
    start: StartLogps
    scorer: Scorer
    learner: Learner
    renewal: Renewal
    estimate: MemoryEstimate


def prepare(
    task: Task, plan: StepPlan, period: int, *, file: LogpsFile, ranks: Ranks, should_stop: Callable[[], bool]
) -> Ready:
    """Load the models, ask them for what is read before the first step, see that memory is enough.

    Args:
        task: What is to be trained.
        plan: Its steps.
        period: Steps from one renewal of the reference to the next.
        file: Where log-probs of models that do not learn are kept.
        ranks: The processes that train.
        should_stop: Polled while log-probs are computed.

    Raises:
        SettingsError, DataError, ResourceError, Preempted: As `train` says.
    """
    settings, data, models, objective = task.settings, task.data, task.models, task.objective
    reading = Reading(longest=max(map(longest_row, (*data.train, *data.held_out))), bf16=settings.bf16)
    scorer = Scorer(settings.per_device_train_batch_size, reading, should_stop)
    policy = task.load()
    check_dropout(objective, settings, shares_adapters=has_adapters(policy.model) and models.starts_at_reference)
    layout = reading.layout(policy.model)
    division = plan_division(data.train, settings, num_ranks=ranks.size, layout=layout)
    asked = StartRows(
        reference=reference_rows(objective, data.train, plan, 0, period),
        frozen=used_examples(data.train, plan, 0, plan.num_steps) if models.frozen else {},
        held_out=data.held_out,
    )
    start = start_logps(policy, models, asked, scorer, file, loading=task.model_settings)
    policy = make_trainable(policy, settings, seed=task.seed)
    live = _live_reference(policy, task)
    second = None if live is policy.model else live
    copies = settings.dp_replicate_size if ranks.size > 1 else 1
    batch, most = largest_micro_batch(plan, division, data.train, layout=layout)
    estimate = estimate_memory(
        *(policy.model, settings, batch),
        layout=layout,
        reference=second,
        num_ranks=ranks.size // copies,
        accumulates=most > 1,
    )
    with ranks.same_fate():
        check_room(estimate, free_bytes(policy.model.device), settings, task.model_settings)
    shard(policy.model, ranks, copies=copies)
    starts_at_reference = models.starts_at_reference and objective.needs_reference
    learner = Learner(
        model=policy.model,
        data=_training_set(task, start, asked.frozen),
        objective=objective,
        seed=task.seed,
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
    return Ready(policy, start, scorer, learner, renewal, estimate)


def _live_reference(policy: Policy, task: Task) -> PreTrainedModel | None:
    """The reference's model where it must stay in memory; the policy's own stands for what it is without adapters."""
    if task.settings.reference_mixup_alpha == 1 and not needs_live_reference(task.objective):
        return None
    if task.models.is_within_policy:
        return policy.model
    return load_policy(task.models.reference, task.model_settings).model


def _training_set(task: Task, start: StartLogps, examples: Mapping[int, EncodedExample]) -> TrainingSet:
    """The examples with all that is known of them before the first step."""
    frozen = start.frozen
    weights = {}
    if POSITIVE in frozen:
        weights = token_weights(examples, frozen[POSITIVE], frozen[NEGATIVE], task.importance)
    return TrainingSet(
        examples=task.data.train,
        reference=start.reference,
        prompt_loss_weight=task.settings.prompt_loss_weight,
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
