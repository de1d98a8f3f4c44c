"""Accuracy of a model on preference pairs: how often it puts the chosen response above the rejected one.

Left out: comparisons by a judge (`single_evaluation.py`). Floor 7. The folder has the layout of a run with one
iteration; the margins of all pairs lie in it, so that two models can be compared pair by pair.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fairplay.data.reading import read_examples
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.preference_accuracy import preference_accuracy
from fairplay.models.encoding import EncodedExample, encode_examples
from fairplay.models.loading import load_policy, load_tokenizer
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.context import EVALUATION, count_reasons, data_digest
from fairplay.pipeline.margins import MARGINS, MARGINS_NAME, PairMargin, pair_margins, pair_names
from fairplay.pipeline.results import titled, with_intervals, write_results
from fairplay.pipeline.sides import is_recorded
from fairplay.records import Dropped
from fairplay.storage.digests import content_digest
from fairplay.storage.manifest import Manifest, stage_fingerprint
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import HERE, Facts, read_parts, run_sharded
from fairplay.storage.tables import write_records
from fairplay.training.held_out import held_out_margins
from fairplay.training.plan import longest_row
from fairplay.training.reading import Reading
from fairplay.training.reference import Scorer
from fairplay.wording import reasons

NO_PAIRS = "no pairs"
_PARTS_FOLDER = ".parts"
_BATCHES = 16  # that are scored and committed together


@dataclass(frozen=True)
class AccuracySettings:
    """How a model is scored on preference pairs.

    Attributes:
        loading: How models are loaded.
        max_length, max_prompt_length: Longer pairs, in tokens, are left out and counted.
        batch_size: Pairs that are scored together.
    """

    loading: ModelSettings = field(default_factory=ModelSettings)
    max_length: int = 2048
    max_prompt_length: int = 1024
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("max_length", "max_prompt_length", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)} is less than 1")


def evaluate_pairs(
    policy: str,
    reference: str,
    source: str,
    settings: AccuracySettings,
    out: Path | None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Any], Path]:
    """Share of preference pairs that a model orders as the annotator did.

    Args:
        policy: The model.
        reference: Another model for the implicit reward (difference of log-ratios); empty for none.
        source: Preference pairs.
        settings: Loading and limits.
        out: The folder for margins and results; None names one by the hash of all that decides them.
        should_stop: Asked at every commit of some batches; the same call again goes on from there.

    Returns:
        Accuracy with its interval by summed log-probs, by mean log-probs, and by implicit reward if there is a
        reference, as `results.json` in the folder has it; and the folder.

    Raises:
        DataError: If there is no usable pair.
        Preempted: If `should_stop` said so.
    """
    for name in (policy, reference):
        if name and is_recorded(name):
            raise DataError(f"{name}: is a file, not a model folder", hint="--data measures models only")
    inputs = {"data": data_digest(source), "policy": content_digest(policy)}
    if reference:
        inputs["reference"] = content_digest(reference)
    stage = Stage(EVALUATION, 1, settings_document(settings), inputs, {"data": source})
    fingerprint = stage_fingerprint(stage.name, stage.iteration, dict(stage.settings), dict(stage.inputs))
    run = RunDirectory(out or Path("runs") / f"accuracy-{fingerprint[:10]}")
    document = {"policy": policy, "reference": reference, "data": source, **settings_document(settings)}
    with run.open(document, identity=lambda written: {"measures": "data" in written and "reference" in written}):
        manifest = run.run_stage(stage, lambda folder: _fill(folder, policy, reference, source, settings, should_stop))
        told = accuracy_document(policy, source, manifest)
        write_results(run.path, told)
    return told, run.path


def accuracy_document(policy: str, source: str, manifest: Manifest) -> dict[str, Any]:
    """The accuracy of a finished evaluation as `results.json` has it."""
    counts = {"num_in": manifest.num_in, "num_out": manifest.num_out, "dropped": manifest.dropped}
    results: Mapping[str, Any] = manifest.results
    kinds = {kind: results[kind] for kind in MARGINS if kind in results}
    document = {"policy": policy, "data": source, "format": results["format"], **counts, **with_intervals(kinds)}
    return titled("accuracy", document)


@dataclass(frozen=True)
class MarginWork:
    """Margins of preference pairs, as plain data.

    Attributes:
        policy, reference: The models; without a reference the policy answers for it, and implicit rewards are all 0.
        settings: Loading and batch size.
        longest: Tokens of the longest row of all examples; it decides how models read.
    """

    policy: str
    reference: str
    settings: AccuracySettings
    longest: int
    asks_server: ClassVar[bool] = False
    num_gpus: ClassVar[int] = 1

    def start(self) -> "MarginWorker":
        """Load the models."""
        return MarginWorker(self)


class MarginWorker:
    """Scores whole batches, so that margins do not depend on where scoring was stopped.

    Args:
        work: What is done.
    """

    facts: ClassVar[Facts] = {}

    def __init__(self, work: MarginWork) -> None:
        self.work = work
        sources = [work.policy, work.reference] if work.reference else [work.policy]
        self.models = [load_policy(source, work.settings.loading).model.train(False) for source in sources]
        reading = Reading(longest=work.longest, bf16=False)
        self.scorer = Scorer(work.settings.batch_size, reading, should_stop=lambda: False)

    def do(self, items: Sequence[EncodedExample]) -> tuple[Sequence[PairMargin], Sequence[Dropped]]:
        """The margins of all pairs of these examples."""
        scored = [self.scorer.token_logps(model, items, "log-probs of pairs") for model in self.models]
        margins = held_out_margins(items, scored[0], scored[-1])
        return pair_margins(_examples_of(items), margins, has_reference=bool(self.work.reference)), ()

    def close(self) -> None:
        """Forget the models."""
        self.models = []


def _examples_of(encoded: Sequence[EncodedExample]) -> list[str]:
    """The example of each pair: pairs of one example are one prompt's."""
    return [one.example.id for one in encoded for _ in one.example.pairs]


def _fill(
    folder: Path,
    policy: str,
    reference: str,
    source: str,
    settings: AccuracySettings,
    should_stop: Callable[[], bool],
) -> StageOutcome:
    loaded = read_examples(source)
    with_pairs = [example for example in loaded.items if example.pairs]
    unpaired = [Dropped(example.id, NO_PAIRS) for example in loaded.items if not example.pairs]
    encoded = encode_examples(
        load_tokenizer(policy, revision=settings.loading.revision),
        with_pairs,
        max_length=settings.max_length,
        max_prompt_length=settings.max_prompt_length,
    )
    dropped = count_reasons([*loaded.dropped, *unpaired, *encoded.dropped])
    if not encoded.examples:
        raise DataError(f"{source}: no usable preference pair ({reasons(dropped)})")
    by_length = sorted(encoded.examples, key=longest_row)  # as the scorer orders them: shards are whole batches of all
    run_sharded(
        folder / _PARTS_FOLDER,
        by_length,
        MarginWork(policy, reference, settings, longest_row(by_length[-1])),
        PairMargin,
        executor=HERE,
        shard_size=_BATCHES * settings.batch_size,
        description="log-probs of pairs",
        should_stop=should_stop,
    )
    found = {one.pair: one for one in read_parts(folder / _PARTS_FOLDER, PairMargin)}
    examples = _examples_of(encoded.examples)
    rows = [found[name] for name in pair_names(examples)]
    write_records(folder / MARGINS_NAME, rows, PairMargin)
    shutil.rmtree(folder / _PARTS_FOLDER)
    kinds = MARGINS if reference else MARGINS[:2]
    accuracies = {kind: asdict(preference_accuracy([getattr(row, kind) for row in rows], examples)) for kind in kinds}
    num_in = len(loaded.items) + len(loaded.dropped)
    return StageOutcome(num_in, len(encoded.examples), dropped, {"format": loaded.format, **accuracies})
