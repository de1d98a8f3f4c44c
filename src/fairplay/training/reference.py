"""Token-level log-probs of models that do not learn, computed once before the first step and kept for a resume.

Left out: references that change in training (`renewal.py`), which ones there are (`start.py`). The starting policy
answers for the reference unless another model is named; any other is loaded, asked and freed before the next. Floor 5.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from fairplay.errors import DataError, Preempted
from fairplay.models.encoding import EncodedExample
from fairplay.progress import progress
from fairplay.storage.atomic import write_atomic
from fairplay.training.batches import example_rows
from fairplay.training.distributed import current_ranks
from fairplay.training.guard import named
from fairplay.training.plan import longest_row
from fairplay.training.reading import Reading
from fairplay.training.reference_rows import response_sizes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """How log-probs are computed without a gradient.

    Attributes:
        batch_size: Examples scored together.
        reading: How models read rows.
        should_stop: Polled between batches.
    """

    batch_size: int
    reading: Reading
    should_stop: Callable[[], bool]

    def token_logps(self, model: PreTrainedModel, examples: Sequence[EncodedExample], what: str) -> tuple[Tensor, ...]:
        """For each example the log-probs of all its response tokens, flat, on the CPU.

        Raises:
            DataError: If one is not finite.
            Preempted: If asked to stop; what was scored so far is lost.
        """
        order = sorted(range(len(examples)), key=lambda index: longest_row(examples[index]))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        ranks, found = current_ranks(), []
        with progress(what, len(order)) as bar, torch.no_grad():
            for start in range(0, len(batches), ranks.size):
                if ranks.any(self.should_stop()):
                    raise Preempted(f"stopped while {what} were computed", hint="run the same command again to resume")
                # Ranks take turns; where no batch is left, one is scored for the company and forgotten.
                place = start + ranks.rank
                rows = example_rows([examples[index] for index in batches[min(place, len(batches) - 1)]])
                logps = self.reading.score(model, rows).logps.cpu()
                found.append(logps if place < len(batches) else logps[:0])
                bar.advance(sum(map(len, batches[start : start + ranks.size])))
        turns = [index for rank in range(ranks.size) for batch in batches[rank :: ranks.size] for index in batch]
        flat, _ = ranks.gather(torch.cat(found) if found else torch.zeros(0))
        result = dict(zip(turns, _cut(flat, [examples[index] for index in turns]), strict=True))
        scored = tuple(result[index] for index in range(len(examples)))
        _require_finite(examples, scored, what)
        return scored


@dataclass(frozen=True)
class LogpsFile:
    """Log-probs by name on disk, so that a resumed training need not load the reference again.

    The fingerprint covers weights, tokens and settings, so those of another training are never taken for one's own; a
    hash beside it tells whether the numbers are still those that were written.
    """

    path: Path
    fingerprint: str

    def write(self, logps: Mapping[str, tuple[Tensor, ...]]) -> None:
        """Write them, flat; of several ranks the first does.

        Raises:
            ResourceError: If the disk is full or not writable.
        """
        if not current_ranks().is_first:
            return
        flat = {name: torch.cat(parts) if parts else torch.zeros(0) for name, parts in logps.items()}
        write_atomic(self.path, save(flat, metadata={"fingerprint": self.fingerprint, "sha256": _digest(flat)}))

    def read(self, examples: Mapping[str, Sequence[EncodedExample]]) -> dict[str, tuple[Tensor, ...]] | None:
        """What was written for these examples, or None if there is nothing of this training.

        Raises:
            DataError: If the file can't be read, or holds other numbers than were written for this training.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                known = file.metadata() or {}
                if known.get("fingerprint") != self.fingerprint:
                    logger.info("%s: of another training, computed anew", self.path)
                    return None
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except SafetensorError as error:
            raise self._damaged(f"can't be read ({error})") from error
        if known.get("sha256") != _digest(flat):
            raise self._damaged("the log-probs in it are not those that were written: their hash differs")
        return {name: _cut(flat[name], of_name) for name, of_name in examples.items()}

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path}: {what}", hint="remove this file; the log-probs are then computed again")


@dataclass(frozen=True)
class Question:
    """Log-probs that are asked for before the first step.

    Attributes:
        model: Content hash of the model that is asked.
        examples: What it is asked for.
        what: The same in words.
    """

    model: str
    examples: tuple[EncodedExample, ...]
    what: str


def answers(
    questions: Mapping[str, Question],
    load: Callable[[str], AbstractContextManager[PreTrainedModel]],
    scorer: Scorer,
    file: LogpsFile,
) -> dict[str, tuple[Tensor, ...]]:
    """Log-probs by name, from the file of an earlier part of this training if there is one.

    Args:
        questions: What is asked, by name.
        load: Gives the model of a content hash while it is asked; called once for each, and only where there is
            something to ask.
        scorer: How to compute them.
        file: Where they are kept.
    """
    known = file.read({name: question.examples for name, question in questions.items()})
    if known is not None:
        return known
    found: dict[str, tuple[Tensor, ...]] = dict.fromkeys(questions, ())
    asked = {name: question for name, question in questions.items() if question.examples}
    for digest in dict.fromkeys(question.model for question in asked.values()):
        of_model = {name: question for name, question in asked.items() if question.model == digest}
        told: list[tuple[Question, tuple[Tensor, ...]]] = []
        with load(digest) as model:
            for name, question in of_model.items():
                twin = next((logps for other, logps in told if other.examples == question.examples), None)
                found[name] = scorer.token_logps(model, question.examples, question.what) if twin is None else twin
                told.append((question, found[name]))
            del model
    file.write(found)
    return found


def _digest(flat: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(flat.items()):
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _cut(flat: Tensor, examples: Sequence[EncodedExample]) -> tuple[Tensor, ...]:
    return torch.split(flat, response_sizes(examples)) if examples else ()


def _require_finite(examples: Sequence[EncodedExample], logps: Sequence[Tensor], what: str) -> None:
    bad = [e.example.id for e, values in zip(examples, logps, strict=True) if not bool(values.isfinite().all())]
    if bad:
        raise DataError(
            f"{what}: not finite for {len(bad)} of {len(examples)} examples: {named(bad)}",
            hint="the model's weights may be damaged, or too large for its dtype",
        )
