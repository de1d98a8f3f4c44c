"""The settings of `fairplay demo`: the embedded recipe on the embedded world, which is made on the spot.

Left out: the world (`starter/`), the loop (`loop.py`): from here on it is a run like any other. Floor 7.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.offline import OfflineData, divide
from fairplay.pipeline.settings import RunSettings, run_settings
from fairplay.starter.build import build_starter
from fairplay.starter.policy import fit_starter
from fairplay.starter.settings import PRESETS, StarterPolicySettings, StarterSettings
from fairplay.storage.atomic import write_atomic
from fairplay.storage.settings_file import apply_overrides, dump_yaml, parse_yaml

STARTER_FOLDER = "starter"


def make_starter(
    folder: Path, settings: StarterSettings, *, seed: int, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Make the embedded world in a folder, or finish it, and write a recipe there that runs on it.

    Args:
        folder: Gets `policy/`, `oracle/`, the prompts, and `recipe.yaml`.
        settings: Sizes and steps.
        seed: Every draw of the world and of its training comes from it.
        should_stop: Asked at every commit.

    Returns:
        The recipe's plain data, its paths those of `folder`.
    """
    build_starter(folder, settings, seed=seed, should_stop=should_stop)
    recipe = apply_overrides(embedded_recipe(), [*paths_in(folder), f"seed={seed}"])
    write_atomic(folder / "recipe.yaml", dump_yaml(recipe))
    return recipe


def fit_to_data(
    folder: Path, data: OfflineData, settings: StarterPolicySettings, *, seed: int, should_stop: Callable[[], bool]
) -> dict[str, object]:
    """Make the tiny policy with its tokenizer fitted to someone's conversations (or the chosen side of preferences).

    Args:
        folder: Gets `policy/`.
        data: What it learns from; examples that an offline training with the same data and seed would hold out are
            held out here too, so that its accuracy on them is honest.
        settings: Sizes and steps.
        seed: Decides weights, batches, and what is held out.
        should_stop: Asked after every step.

    Returns:
        What was read, and where the policy lies.
    """
    loaded = read_examples(data.source)
    kept, held_out = divide(loaded.items, data, seed)
    policy = fit_starter(folder, kept, settings, seed=seed, should_stop=should_stop)
    dropped = count_reasons(loaded.dropped)
    counts = {"examples": len(kept), "held_out": len(held_out), "dropped": dropped}
    return {"format": loaded.format, **counts, "policy": str(policy)}


def embedded_recipe() -> dict[str, Any]:
    """The recipe that `fairplay demo` runs, as plain data."""
    return parse_yaml(files("fairplay.starter").joinpath("demo.yaml").read_text(), "demo.yaml")


def paths_in(folder: Path) -> list[str]:
    """Overrides that point the embedded recipe to a starter folder."""
    places = {
        "model": "policy",
        "oracle.model": "oracle",
        "prompts.data": "prompts.jsonl",
        "evaluation.prompts": "held_out_prompts.jsonl",
    }
    return [f"{key}={folder / name}" for key, name in places.items()]


def demo_settings(
    out: Path,
    *,
    seed: int,
    short: bool,
    length_love: float,
    overrides: list[str],
    should_stop: Callable[[], bool],
) -> RunSettings:
    """Make the world below `out`, and the settings of a run on it."""
    recipe = make_starter(
        out / STARTER_FOLDER,
        starter_settings(short=short, length_love=length_love),
        seed=seed,
        should_stop=should_stop,
    )
    return run_settings(recipe, overrides, source="demo.yaml", name="demo")


def starter_settings(*, short: bool, length_love: float) -> StarterSettings:
    """The embedded world in its full or short form, with annotators that love length as much as is said."""
    return replace(PRESETS["short" if short else "full"], length_love=length_love)
