"""The settings of `fairplay demo`: the embedded recipe on the embedded world, which is made on the spot.

Left out: the world (`starter/`), the loop (`loop.py`): from here on it is a run like any other. Floor 7.
"""

import logging
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
from fairplay.storage.settings_file import dump_yaml, parse_yaml

logger = logging.getLogger(__name__)
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
    recipe = recipe_in(folder, seed=seed)
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
    divided = divide(loaded.items, data, seed)
    told = (folder, len(divided.training), settings.max_steps)
    logger.info("%s: fitting a tiny policy to %d examples, %d steps (about a minute)", *told)
    policy = fit_starter(folder, divided.training, settings, seed=seed, should_stop=should_stop)
    dropped = count_reasons([*loaded.dropped, *divided.dropped])
    counts = {"examples": len(divided.training), "held_out": len(divided.held_out), "dropped": dropped}
    return {"format": loaded.format, **counts, "policy": str(policy)}


def recipe_in(folder: Path, *, seed: int) -> dict[str, Any]:
    """The embedded recipe, pointed to a starter folder."""
    recipe = parse_yaml(files("fairplay.starter").joinpath("demo.yaml").read_text(encoding="utf-8"), "demo.yaml")
    place = folder.resolve()
    recipe |= {"seed": seed, "model": str(place / "policy")}
    recipe["oracle"]["model"] = str(place / "oracle")
    recipe["prompts"]["data"] = str(place / "prompts.jsonl")
    recipe["evaluation"]["prompts"] = str(place / "held_out_prompts.jsonl")
    return recipe


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
