"""The settings of a run: one YAML file, one dataclass, each part's settings beside that part.

Left out: what the parts mean (see their own `settings.py`). Floor 7; imports no torch.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from fairplay.cluster.settings import ClusterSettings
from fairplay.errors import SettingsError
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.evaluation.settings import EvaluationSettings
from fairplay.generation.settings import GenerationSettings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.settings import OracleSettings
from fairplay.preferences.settings import SelectionSettings
from fairplay.servers.settings import PATIENCE
from fairplay.storage.run_directory import SETTINGS_NAME
from fairplay.storage.settings_file import apply_overrides, build_settings, read_yaml, settings_document, without
from fairplay.training.settings import ImportanceSettings, TrainingSettings

logger = logging.getLogger(__name__)
# What may change when a run goes on. Places: each stage's fingerprint judges what lies there by its content.
_OTHER_MODELS = ("anchor", "importance.positive", "importance.negative")
_WHERE_ORACLES_LIE = ("model", "records", "answers")
_ORACLES = tuple(f"{who}.{key}" for who in ("oracle", "evaluation.judge") for key in _WHERE_ORACLES_LIE)
_PLACES = ("model", *_OTHER_MODELS, "prompts.data", "evaluation.prompts", "benchmarks.data", *_ORACLES)
_MOVES_NO_BYTE = (
    "cluster",
    "training.report_to",
    "training.save_steps",
    "training.dp_replicate_size",
    "evaluation.all_checkpoints",
    "generation.vllm.gpu_memory_utilization",
    "generation.server.base_url",
)
_PATIENCE = tuple(f"{who}.server.{key}" for who in ("oracle", "evaluation.judge", "generation") for key in PATIENCE)
_OF_A_MEMBER = frozenset({*_WHERE_ORACLES_LIE, *(f"server.{key}" for key in PATIENCE)})
MAY_CHANGE = frozenset({*_PLACES, *_MOVES_NO_BYTE, *_PATIENCE})
NEW_OBJECTIVE = "objective.name="


@dataclass(frozen=True)
class PromptSettings:
    """Where training prompts come from, and how many an iteration takes; iterations never share a prompt.

    Attributes:
        data: A local file or folder, or a hub id.
        num_per_iteration: Fresh prompts for each iteration; 0 divides all of them evenly.
    """

    data: str
    num_per_iteration: int = 0

    def __post_init__(self) -> None:
        if self.num_per_iteration < 0:
            raise ValueError(f"num_per_iteration: must be at least 0, is {self.num_per_iteration}")


@dataclass(frozen=True)
class TrainRunSettings:
    """What decides an offline training: everything but the data.

    Attributes:
        model: The policy to start from: a folder or a hub id.
        name: Name of the run; by default the recipe's file name.
        seed: Every random draw is a hash that begins with it.
        loading: How models are loaded.
        objective: `name`, and the parameters that this objective takes.
        anchor: The fixed model that some objectives (`inpo`, `rspo`) are held to besides the reference; by default
            the `model` to start from.
        importance: The two models that weigh tokens for some objectives (`tis_dpo`), and how.
        training: How to train.
    """

    model: str
    name: str
    seed: int = 0
    loading: ModelSettings = field(default_factory=ModelSettings)
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "dpo"})
    anchor: str = ""
    importance: ImportanceSettings = field(default_factory=ImportanceSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        if fault := _fault_of_name(self.name):
            raise ValueError(fault)


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides the result of a self-play run.

    Attributes:
        model: The policy to start from: a folder or a hub id.
        prompts: Where training prompts come from.
        oracle: Who prefers.
        evaluation: Held-out prompts, the judge, and what is measured.
        name: Name of the run; by default the recipe's file name.
        seed: Every random draw of the run is a hash that begins with it.
        num_iterations: Rounds of generate, rank, select, train, evaluate.
        reference: The reference of an iteration's training: the `previous` iterate (SPPO), or the `start` policy.
        learning_rate_decay: Factor on the learning rate from one iteration to the next.
        shard_size: Prompts that are committed together; a kill loses at most one shard.
        loading: How models are loaded.
        generation: How the policy responds.
        selection: How preferences become training examples.
        objective: `name`, and the parameters that this objective takes.
        anchor: The fixed model that some objectives (`inpo`, `rspo`) are held to besides the reference; by default
            the `model` to start from.
        importance: The two models that weigh tokens for some objectives (`tis_dpo`), and how.
        training: How to train.
        benchmarks: Capability benchmarks of the start policy and the last iterate, to tell what alignment cost; none
            unless `tasks` are named.
        cluster: Who generates, ranks and judges; this process unless an `address` is named.
    """

    model: str
    prompts: PromptSettings
    oracle: OracleSettings
    evaluation: EvaluationSettings
    name: str
    seed: int = 0
    num_iterations: int = 3
    reference: Literal["previous", "start"] = "previous"
    learning_rate_decay: float = 1.0
    shard_size: int = 64
    loading: ModelSettings = field(default_factory=ModelSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "sppo"})
    anchor: str = ""
    importance: ImportanceSettings = field(default_factory=ImportanceSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    benchmarks: BenchmarkSettings = field(default_factory=lambda: BenchmarkSettings(tasks=()))
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def __post_init__(self) -> None:
        faults = [
            f"{key}: must be at least 1, is {getattr(self, key)}" for key in _AT_LEAST_ONE if getattr(self, key) < 1
        ]
        if fault := _fault_of_name(self.name):
            faults.append(fault)
        if not (isfinite(self.learning_rate_decay) and self.learning_rate_decay > 0):
            faults.append(f"learning_rate_decay: must be above 0, is {self.learning_rate_decay}")
        if faults:
            raise ValueError("; ".join(faults))

    def training_of(self, iteration: int) -> TrainingSettings:
        """The training settings of one iteration (from 1), its learning rate decayed."""
        rate = self.training.learning_rate * self.learning_rate_decay ** (iteration - 1)
        return replace(self.training, learning_rate=rate)


_AT_LEAST_ONE = ("num_iterations", "shard_size")


def _fault_of_name(name: str) -> str:
    """What keeps a run's name from being the name of its folder; empty if nothing does."""
    fits = name not in ("", ".", "..") and name.isprintable() and not {"/", "\\"} & set(name)
    return "" if fits else f"name: must be the name of a folder, is {name!r}"


def run_identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """What of a self-play run's settings must be equal for it to go on, with today's default where one is not there."""
    told = without(settings_document(build_settings(RunSettings, document, SETTINGS_NAME)), MAY_CHANGE)
    for asked in (told["oracle"], told["evaluation"]["judge"]):
        if "members" in asked:  # an ensemble's, each with places and patience of its own
            asked["members"] = [without(member, _OF_A_MEMBER) for member in asked["members"]]
    return told


def _complete(document: dict[str, Any], overrides: list[str], name: str) -> dict[str, Any]:
    theirs = document.get("objective", {})
    theirs = {"name": theirs} if isinstance(theirs, str) else theirs
    named = [override.removeprefix(NEW_OBJECTIVE) for override in overrides if override.startswith(NEW_OBJECTIVE)]
    if named and isinstance(theirs, dict) and named[-1].strip() != theirs.get("name"):
        document = {**document, "objective": {}}  # another objective does not take the parameters of the recipe's
        if discarded := " ".join(f"{key}={value}" for key, value in theirs.items() if key != "name"):
            logger.warning("objective %s: the recipe's %s of %s discarded", named[-1], discarded, theirs.get("name"))
    completed = apply_overrides(document, overrides)
    if isinstance(completed.get("objective"), str):
        completed["objective"] = {"name": completed["objective"]}
    completed.setdefault("name", name)
    return completed


def read_run_settings(recipe: Path, overrides: list[str]) -> RunSettings:
    """The settings of a self-play run, with `key=value` overrides put in.

    Raises:
        SettingsError: With every fault of the recipe at once.
    """
    return run_settings(read_yaml(recipe), overrides, source=str(recipe), name=recipe.stem)


def run_settings(document: dict[str, Any], overrides: list[str], *, source: str, name: str) -> RunSettings:
    """The settings of a self-play run from a recipe's plain data.

    Raises:
        SettingsError: With every fault at once.
    """
    return build_settings(RunSettings, _complete(document, overrides, name), source)


def read_train_settings(recipe: Path, overrides: list[str]) -> TrainRunSettings:
    """The settings of an offline training; a self-play recipe will do too, what only its loop needs is left aside.

    Raises:
        SettingsError: With every fault of the recipe at once.
    """
    document = _complete(read_yaml(recipe), overrides, recipe.stem)
    own = {item.name for item in fields(TrainRunSettings)}
    only_loop = [key for key in document if key not in own and key in {item.name for item in fields(RunSettings)}]
    if only_loop:
        logger.info("%s: not used by an offline training: %s", recipe, ", ".join(only_loop))
    kept = {key: value for key, value in document.items() if key not in only_loop}
    return build_settings(TrainRunSettings, kept, str(recipe))


def split_objective(objective: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of an objective as a recipe writes it.

    Raises:
        SettingsError: If it has no name.
    """
    if "name" not in objective:
        raise SettingsError("objective: no `name`", hint="for example `objective: {name: sppo, eta: 5}`")
    return str(objective["name"]), {key: value for key, value in objective.items() if key != "name"}
