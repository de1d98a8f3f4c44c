"""Training an oracle on someone's preference data: pairs split by prompt, a start, the training, what it is worth.

Left out: the training itself (`training/oracle_training.py`), what is measured (`oracle_results.py`), asking it
(`fairplay rank`). Floor 7. The folder has the layout of a run with one iteration:

    settings.yaml  iteration-1/{1-pairs,2-start,3-oracle}/  results.json  report/index.html
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples
from fairplay.errors import DataError
from fairplay.pipeline.context import count_reasons, data_digest, free_memory
from fairplay.pipeline.oracle_results import KEPT_APART, oracle_results, write_verdicts
from fairplay.pipeline.results import titled, with_intervals, write_results
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.settings import ScratchSettings
from fairplay.storage.digests import content_digest
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import apply_overrides, build_settings, read_yaml, settings_document, without
from fairplay.storage.tables import read_records, write_records
from fairplay.training.oracle_settings import OracleTrainingSettings
from fairplay.wording import reasons

logger = logging.getLogger(__name__)

PAIRS, START, ORACLE = "1-pairs", "2-start", "3-oracle"
PARTS = ("training", "calibration", "held_out")
TRAINING_LOGS = ("metrics.jsonl", "summary.json", "tensorboard", "wandb_id.txt")
NUM_TOKENIZER_PAIRS = 6000
FEWEST_KEPT_APART = 20
"""Pairs to measure accuracy, or to fit a temperature on; the interval of an accuracy is 44 points wide by then."""
_MOVES_NO_BYTE = ("report_to", "save_steps")
_MAY_CHANGE = frozenset({"model", *(f"training.{name}" for name in _MOVES_NO_BYTE)})


@dataclass(frozen=True)
class OracleRunSettings:
    """What decides an oracle's training: everything but the data.

    Attributes:
        name: Name of the run; by default the recipe's file name.
        model: Where it starts from: a folder or a hub id, a language model, an encoder, or an oracle of the kind.
        scratch: Or: a model without any learnt weights.
        seed: Every random draw is a hash that begins with it.
        num_held_out: Pairs, by whole prompts, that nothing is fitted to.
        num_calibration: Other pairs, by whole prompts, on which the temperature is fitted.
        training: The oracle's kind, and how to train it.
    """

    name: str
    model: str = ""
    scratch: ScratchSettings = field(default_factory=ScratchSettings)
    seed: int = 0
    num_held_out: int = 200
    num_calibration: int = 200
    training: OracleTrainingSettings = field(default_factory=OracleTrainingSettings)

    def __post_init__(self) -> None:
        faults = [
            f"{key}: must be at least {FEWEST_KEPT_APART}, is {getattr(self, key)}; fewer say too little"
            for key in ("num_held_out", "num_calibration")
            if getattr(self, key) < FEWEST_KEPT_APART
        ]
        if bool(self.model) == bool(self.scratch.model_type):
            faults.append("model, scratch.model_type: name either what to start from, or an architecture")
        if faults:
            raise ValueError("; ".join(faults))


def read_oracle_settings(recipe: Path | None, overrides: list[str]) -> OracleRunSettings:
    """The settings of an oracle's training, from a recipe or from overrides alone.

    Raises:
        SettingsError: With every fault at once.
    """
    document = apply_overrides(read_yaml(recipe) if recipe else {}, overrides)
    document.setdefault("name", recipe.stem if recipe else "oracle")
    return build_settings(OracleRunSettings, document, str(recipe) if recipe else "--set")


def train_oracle_run(
    settings: OracleRunSettings, data: str, run: RunDirectory, *, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train an oracle, or go on with it; its results and report are written too.

    Args:
        settings: Everything but the data.
        data: A local file or folder, or a hub id.
        run: Where it goes.
        should_stop: Asked after every optimiser step.

    Returns:
        What was read, trained and measured, as plain data.

    Raises:
        SettingsError: If the folder was started with other settings.
        DataError: If the data have too few pairs, or none.
        Preempted: If `should_stop` said so.
    """
    with run.open({**settings_document(settings), "data": data}, identity=_identity):
        read = _pairs_stage(run, settings, data)
        source = settings.model
        if settings.scratch.model_type:
            _start_stage(run, settings, read.content)
            source = str(run.folder(1, START) / "model")
        logger.info("%s: %s, %d pairs to learn from", run.path, settings.training.kind, read.num_out)
        _oracle_stage(run, settings, source, read.content, should_stop)
        finished = (run.manifest(1, stage) for stage in (PAIRS, ORACLE))  # as they lie there: the same bytes every time
        results = oracle_document(run, settings, data, *finished)
        write_results(run.path, results)
        from fairplay.reports.oracle_page import write_oracle_page

        page = write_oracle_page(results, run.path / "report")
        return {**results, "report": str(page)}


def oracle_document(
    run: RunDirectory, settings: OracleRunSettings, data: str, read: Manifest, trained: Manifest
) -> dict[str, Any]:
    """The results of a finished training of an oracle as `results.json` has them.

    Args:
        run: Its folder.
        settings: Everything but the data.
        data: What it was called with.
        read: The finished stage that read the pairs.
        trained: The finished stage of the training.
    """
    document = {
        "name": settings.name,
        "oracle_kind": settings.training.kind,
        "seed": settings.seed,
        "data": {"source": data, "num_in": read.num_in, "dropped": read.dropped} | read.results,
        "training": {"dropped": trained.dropped, "tokens": trained.tokens} | trained.results["training"],
        "measured": with_intervals(trained.results["measured"]),
        "model": str(run.folder(1, ORACLE) / "model"),
    }
    return titled("oracle", document)


def _identity(document: Mapping[str, Any]) -> dict[str, Any]:
    settings = build_settings(OracleRunSettings, without(document, {"data"}), SETTINGS_NAME)
    return without(settings_document(settings), _MAY_CHANGE)


def _pairs_stage(run: RunDirectory, settings: OracleRunSettings, data: str) -> Manifest:
    """Read the user's data into three parts that share no prompt."""

    def fill(folder: Path) -> StageOutcome:
        from fairplay.training.oracle_pairs import different_pairs, split_pairs

        loaded = read_examples(data)
        kept, dropped = different_pairs(loaded.items)
        if not kept:
            raise DataError(
                f"{data}: none of {len(loaded.items)} rows has a pair of two different texts "
                f"({reasons(count_reasons([*loaded.dropped, *dropped]))})",
                hint="an oracle learns from labelled pairs, such as `prompt`, `chosen`, `rejected`",
            )
        parts = split_pairs(
            kept, num_calibration=settings.num_calibration, num_held_out=settings.num_held_out, seed=settings.seed
        )
        for name, part in zip(PARTS, parts, strict=True):
            write_records(folder / _file(name), part, TrainingExample)
        counts = {f"num_{name}": len(part) for name, part in zip(PARTS, parts, strict=True)}
        num_in = len(loaded.items) + len(loaded.dropped)
        counted = count_reasons([*loaded.dropped, *dropped])
        return StageOutcome(num_in, len(parts[0]), counted, {"format": loaded.format, **counts})

    names = ("seed", "num_held_out", "num_calibration")
    decisive = {name: getattr(settings, name) for name in names}
    return run.run_stage(Stage(PAIRS, 1, decisive, {"data": data_digest(data)}, {"data": data}), fill)


def _start_stage(run: RunDirectory, settings: OracleRunSettings, pairs: str) -> Manifest:
    """Write a model without learnt weights, its tokenizer fitted to the pairs that are learnt from."""

    def fill(folder: Path) -> StageOutcome:
        from fairplay.starter.scratch import write_untrained

        learnt = _read(run, "training")[:NUM_TOKENIZER_PAIRS]
        texts = [message.content for pair in learnt for message in pair.prompt.messages]
        texts += [response.text for pair in learnt for response in pair.responses]
        seed = stable_seed(settings.seed, "scratch")
        write_untrained(folder / "model", settings.training.kind, settings.scratch, texts, seed=seed)
        return StageOutcome(len(learnt), 1)

    decisive = {
        "seed": settings.seed,
        "kind": settings.training.kind,
        "scratch": settings_document(settings.scratch),
    }
    return run.run_stage(Stage(START, 1, decisive, {"pairs": pairs}), fill)


def _oracle_stage(
    run: RunDirectory, settings: OracleRunSettings, source: str, pairs: str, should_stop: Callable[[], bool]
) -> Manifest:
    """Train, fit the temperature, and measure."""

    def fill(folder: Path) -> StageOutcome:
        from fairplay.training.oracle_training import train_oracle

        learnt, calibration, held_out = (_read(run, name) for name in PARTS)
        summary = train_oracle(
            source,
            learnt,
            settings.training,
            folder / "model",
            calibration=calibration,
            held_out=held_out,
            work=folder,
            seed=stable_seed(settings.seed, "training"),
            should_stop=should_stop,
        )
        free_memory()
        training = {
            name: getattr(summary, name)
            for name in ("steps", "num_pairs", "num_truncated", "first_loss", "last_loss", "temperature")
        }
        verdicts = {part: getattr(summary, part) for part in KEPT_APART}
        write_verdicts(folder, verdicts)
        measured = oracle_results(verdicts, temperature=summary.temperature, seed=settings.seed)
        results = {"training": training, "measured": measured}
        dropped = count_reasons(summary.dropped)
        return StageOutcome(len(learnt), summary.num_pairs, dropped, results, summary.tokens, logs=TRAINING_LOGS)

    decisive = {
        "seed": settings.seed,
        "training": without(settings_document(settings.training), _MOVES_NO_BYTE),
    }
    inputs = {"pairs": pairs, "start": content_digest(source)}
    return run.run_stage(Stage(ORACLE, 1, decisive, inputs), fill)


def _read(run: RunDirectory, part: str) -> Sequence[TrainingExample]:
    return read_records(run.folder(1, PAIRS) / _file(part), TrainingExample)


def _file(part: str) -> str:
    return f"{part}.parquet"
