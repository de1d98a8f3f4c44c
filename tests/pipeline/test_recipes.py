import itertools
import re
import shlex
from pathlib import Path

import pytest

from fairplay.objectives.table import build_objective
from fairplay.pipeline.demo import recipe_in
from fairplay.pipeline.settings import read_train_settings, run_settings, split_objective

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_is_read_without_a_fault(path):
    settings = read_train_settings(path, [])
    assert build_objective(*split_objective(settings.objective)).name == path.stem


def test_the_embedded_recipe_is_read_without_a_fault_wherever_the_world_lies(tmp_path):
    folder = tmp_path / "a #1: [x] @d"
    settings = run_settings(recipe_in(folder, seed=3), ["objective={name: simpo, beta: 2}"], source="demo", name="demo")
    assert (settings.model, settings.seed) == (str(folder / "policy"), 3)
    assert settings.objective == {"name": "simpo", "beta": 2}
    assert settings.training_of(3).learning_rate == pytest.approx(1e-3 * 0.6**2)


def test_the_readmes_one_line_change_of_method_is_a_run_that_fits_together(tmp_path):
    line = re.search(r"`fairplay (demo [^`]*--set[^`]*)`", (RECIPES.parent / "README.md").read_text()).group(1)
    words = shlex.split(line)
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    settings = run_settings(recipe_in(tmp_path, seed=0), overrides, source="demo", name="demo")
    assert build_objective(*split_objective(settings.objective)).name == "dpo"
    assert settings.selection.kind == "best-worst"
