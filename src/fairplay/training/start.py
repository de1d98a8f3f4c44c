"""What is known before the first step: log-probs of the start, the reference and frozen models, asked one by one.

Left out: how a model is asked, and the file that keeps the answers (`reference.py`). Floor 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from fairplay.models.adapters import adapters_off, base_of_adapter, is_adapter_folder
from fairplay.models.encoding import EncodedExample
from fairplay.models.loading import Policy, check_source, load_policy
from fairplay.models.settings import ModelSettings
from fairplay.storage.digests import content_digest
from fairplay.training.batches import ReferenceLogps
from fairplay.training.reference import LogpsFile, Question, Scorer, answers
from fairplay.training.reference_rows import ReferenceRows, response_logps


@dataclass(frozen=True)
class TrainingModels:
    """The models that a training reads, each a folder or a hub id.

    Attributes:
        policy: The starting policy.
        reference: The reference.
        frozen: Role -> any other model that the objective reads.
        digests: Each of them -> its content hash.
        without_adapters: Content hash of what the policy is without the adapters that it trains; empty without any.
    """

    policy: str
    reference: str
    frozen: Mapping[str, str]
    digests: Mapping[str, str]
    without_adapters: str

    @property
    def is_within_policy(self) -> bool:
        """Whether the reference is what the policy is without its adapters, at any time."""
        return self.without_adapters == self.digests[self.reference]

    @property
    def starts_at_reference(self) -> bool:
        """Whether the starting policy is the reference, wherever the two lie."""
        return self.digests[self.policy] == self.digests[self.reference]

    @property
    def frozen_digests(self) -> dict[str, str]:
        """Role -> content hash."""
        return {role: self.digests[source] for role, source in self.frozen.items()}


def training_models(policy: str, reference: str, frozen: Mapping[str, str], *, use_peft: bool) -> TrainingModels:
    """The models with their content hashes.

    Args:
        policy: The starting policy.
        reference: The reference.
        frozen: Role -> any other model.
        use_peft: Whether adapters are trained: the policy's own where it is an adapter's folder, else fresh ones.

    Raises:
        DataError: If one of them is not there.
    """
    sources = dict.fromkeys((policy, reference, *frozen.values()))
    for source in sources:
        check_source(source)
    digests = {source: content_digest(source) for source in sources}
    without = ""
    if use_peft:
        without = content_digest(base_of_adapter(policy)) if is_adapter_folder(policy) else digests[policy]
    return TrainingModels(policy, reference, frozen, digests, without)


@dataclass(frozen=True)
class StartRows:
    """What models are asked for before the first step.

    Attributes:
        reference: What training reads of the reference, up to its first renewal.
        frozen: Index -> example, of all that the steps learn from; empty where no frozen model is read.
        held_out: Held-out examples.
    """

    reference: ReferenceRows
    frozen: Mapping[int, EncodedExample]
    held_out: tuple[EncodedExample, ...]


@dataclass(frozen=True)
class StartLogps:
    """Log-probs before the first step, flat for each example; empty where nothing asks for them.

    Attributes:
        reference: The reference's, of the rows to train on.
        frozen: Role -> a frozen model's, by index of the example.
        held_out: The starting policy's, of the held-out examples.
        held_out_reference: The reference's, of the held-out examples.
        responses: Index of an example -> the starting policy's log-prob of each of its responses, where some model
            that was asked for them is the starting policy.
    """

    reference: ReferenceLogps
    frozen: Mapping[str, Mapping[int, Tensor]]
    held_out: tuple[Tensor, ...]
    held_out_reference: tuple[Tensor, ...]
    responses: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


def start_logps(
    policy: Policy,
    models: TrainingModels,
    rows: StartRows,
    scorer: Scorer,
    file: LogpsFile,
    *,
    loading: ModelSettings,
) -> StartLogps:
    """Log-probs before the first step, from the file of an earlier part of this training if there is one.

    Args:
        policy: The starting policy, loaded.
        models: Which models there are.
        rows: What they are asked for.
        scorer: How to compute it.
        file: Where it is kept.
        loading: How the other models are loaded, one after the other.
    """
    start, reference = models.digests[models.policy], models.digests[models.reference]
    train, frozen = tuple(rows.reference.examples.values()), tuple(rows.frozen.values())
    questions = {
        "held_out": Question(start, rows.held_out, "held-out log-probs"),
        "held_out_reference": Question(reference, rows.held_out, "held-out reference log-probs"),
        "train": Question(reference, train, "reference log-probs"),
        "anchors": Question(reference, rows.reference.every_anchor, "anchor log-probs"),
    }
    questions |= {
        role: Question(digest, frozen, f"log-probs of `{role}`") for role, digest in models.frozen_digests.items()
    }

    @contextmanager
    def load(digest: str) -> Iterator[PreTrainedModel]:
        if digest == start:
            yield policy.model
        elif digest == models.without_adapters:
            with adapters_off(policy.model):
                yield policy.model
        else:
            source = next(source for source, known in models.digests.items() if known == digest)
            yield load_policy(source, loading).model

    known = answers(questions, load, scorer, file)
    logps = rows.reference.with_logps(known["train"], known["anchors"])
    of_frozen = {role: _by_index(rows.frozen, known[role]) for role in models.frozen}
    of_start = [logps.examples] if models.starts_at_reference else []
    of_start += [of_frozen[role] for role, digest in models.frozen_digests.items() if digest == start]
    return StartLogps(
        reference=logps,
        frozen=of_frozen,
        held_out=known["held_out"],
        held_out_reference=known["held_out_reference"],
        responses=response_logps({**rows.reference.examples, **rows.frozen}, of_start[0] if of_start else {}),
    )


def _by_index(examples: Mapping[int, EncodedExample], logps: Sequence[Tensor]) -> dict[int, Tensor]:
    return dict(zip(examples, logps, strict=True))
