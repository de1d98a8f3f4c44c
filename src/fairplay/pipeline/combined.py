"""Policies made of the checkpoints of a run, or of any models: averages, extrapolations, mixtures.

Left out: how they are made (`models/combining.py`, `generation/mixture.py`). Floor 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairplay.errors import SettingsError
from fairplay.generation.mixture import is_mixture, write_mixture
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.context import CHECKPOINT
from fairplay.pipeline.results import RESULTS_NAME, read_results
from fairplay.pipeline.settings import RunSettings
from fairplay.reports.checkpoint_table import NO_WEIGHT
from fairplay.storage.run_directory import SETTINGS_NAME
from fairplay.storage.settings_file import build_settings, read_yaml

UNIFORM, NASH = "uniform", "nash"


@dataclass(frozen=True)
class CombineSettings:
    """How the models of a weighted sum are loaded; the result has their dtype."""

    loading: ModelSettings = field(default_factory=ModelSettings)


def checkpoints_of(run: Path) -> list[str]:
    """The policies of a finished run: the start, then each iterate.

    Raises:
        SettingsError: If the folder holds no self-play run.
        DataError: If the run is not finished.
    """
    settings = build_settings(RunSettings, read_yaml(run / SETTINGS_NAME), str(run / SETTINGS_NAME))
    read_results(run / RESULTS_NAME, ("run",))
    iterates = [run / f"iteration-{number}" / CHECKPOINT / "model" for number in range(1, settings.num_iterations + 1)]
    return [settings.model, *map(str, iterates)]


def weights_of(run: Path, kind: str) -> list[float]:
    """Shares of a run's policies, the start first.

    Args:
        run: A finished run.
        kind: `uniform`, over the iterates and not the start, which is what the guarantee of self-play is about; or
            `nash`, the mixture that no checkpoint beats.

    Raises:
        SettingsError: If the kind is unknown, or the run's checkpoints did not play each other.
    """
    if kind == UNIFORM:
        number = len(checkpoints_of(run)) - 1
        return [0.0, *[1 / number] * number]
    if kind != NASH:
        raise SettingsError(f"--weights {kind}: not a list of numbers", hint=f"{UNIFORM}, {NASH}, or 0.5,0.5")
    game = read_results(run / RESULTS_NAME, ("run",))["checkpoints"]
    if not game:
        raise SettingsError(f"{run}: its checkpoints did not play each other", hint="set evaluation.all_checkpoints")
    kept = [float(weight) if weight > NO_WEIGHT else 0.0 for weight in game["nash"]]
    return [weight / sum(kept) for weight in kept]


def combine(
    models: Sequence[str], weights: Sequence[float], folder: Path, loading: ModelSettings, *, mixture: bool
) -> dict[str, Any]:
    """Make one policy of several.

    Args:
        models: Folders or hub ids.
        weights: One a model, summing to 1.
        folder: Where it goes; it must not be there.
        loading: How models are loaded, for a weighted sum.
        mixture: Whether each response is drawn from one of them, instead of a sum of weights.

    Returns:
        What was made of what.

    Raises:
        SettingsError: If the weights don't fit, or the folder is there.
        DataError: If a model is not there.
    """
    if folder.exists():
        raise SettingsError(f"{folder}: is there already", hint="choose another --out")
    from fairplay.models.loading import check_source

    for model in models:
        if not is_mixture(model):
            check_source(model)
    if mixture:
        write_mixture(models, weights, folder)
    else:
        from fairplay.models.combining import check_weights, combine_policies

        check_weights(weights, len(models))
        kept = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight]
        combine_policies([model for model, _ in kept], [weight for _, weight in kept], folder, loading)
    members = [{"model": model, "weight": weight} for model, weight in zip(models, weights, strict=True)]
    return {"kind": "mixture" if mixture else "sum of weights", "members": members, "output": str(folder)}
