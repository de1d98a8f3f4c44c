import itertools
import json
import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from fairplay.cli.main import run as fairplay
from fairplay.errors import DataError, ServiceError, SettingsError
from fairplay.objectives.table import build_objective
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES
from fairplay.pipeline.demo import recipe_in
from fairplay.pipeline.loop import check_settings, run_loop
from fairplay.pipeline.oracle_stages import read_oracle_settings
from fairplay.pipeline.planning.clock import Place
from fairplay.pipeline.planning.plan import run_plan
from fairplay.pipeline.settings import read_run_settings, read_train_settings, run_settings, split_objective
from fairplay.pipeline.stages import given_responses, prompt_text
from fairplay.records import TrainingExample
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.tables import read_records

RECIPES = Path(__file__).parents[2] / "recipes"
OWN = RECIPES / "own_data.yaml"
ORACLES = sorted(RECIPES.rglob("reward_model.yaml"))
POLICIES = sorted(set(RECIPES.glob("hh/*.yaml")) - set(ORACLES))


@pytest.mark.parametrize("path", ORACLES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_of_an_oracle_is_read_without_a_fault(path):
    assert read_oracle_settings(path, []).training.kind == path.stem


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_recipe_of_the_hh_dialogues_is_read_without_a_fault(path):
    settings = read_train_settings(path, [])
    assert build_objective(*split_objective(settings.objective)).name == path.stem


def test_the_embedded_recipe_is_read_without_a_fault_wherever_the_world_lies(tmp_path):
    folder = tmp_path / "a #1: [x] @d"
    settings = run_settings(recipe_in(folder, seed=3), ["objective={name: simpo, beta: 2}"], source="demo", name="demo")
    assert (settings.model, settings.seed) == (str(folder / "policy"), 3)
    assert settings.objective == {"name": "simpo", "beta": 2}
    assert settings.training_of(3).learning_rate == pytest.approx(1e-3 * 0.6**2)


@pytest.mark.parametrize(
    ("overrides", "objective", "told"),
    [
        (["objective.name=simpo"], {"name": "simpo"}, "objective simpo: the recipe's beta=0.3 of dpo discarded"),
        (["objective.name=ipo", "objective.tau=0.2"], {"name": "ipo", "tau": 0.2}, "beta=0.3 of dpo discarded"),
        (["objective.name=dpo"], {"name": "dpo", "beta": 0.3}, ""),
        (["objective.beta=0.5"], {"name": "dpo", "beta": 0.5}, ""),
    ],
)
def test_parameters_of_another_objective_are_discarded_and_told(overrides, objective, told, tmp_path, caplog):
    document = recipe_in(tmp_path, seed=0) | {"objective": {"name": "dpo", "beta": 0.3}}
    assert run_settings(document, overrides, source="r", name="r").objective == objective
    assert told in caplog.text
    assert bool(told) == ("discarded" in caplog.text)


def test_the_readmes_one_line_change_of_method_is_a_run_that_fits_together(tmp_path):
    line = re.search(r"`fairplay (demo [^`]*--set[^`]*)`", (RECIPES.parent / "README.md").read_text()).group(1)
    words = shlex.split(line)
    overrides = [after for word, after in itertools.pairwise(words) if word == "--set"]
    settings = run_settings(recipe_in(tmp_path, seed=0), overrides, source="demo", name="demo")
    assert build_objective(*split_objective(settings.objective)).name == "dpo"
    assert settings.selection.kind == "best-worst"


def test_the_recipe_for_ones_own_data_goes_from_a_file_of_prompts_to_checkpoint_and_report(
    tmp_path, world, monkeypatch, capsys
):
    texts = [json.loads(line)["prompt"] for line in (world / "prompts.jsonl").read_text().splitlines()]
    for name, some in (("prompts", texts[:9]), ("held_out", texts[9:15])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in some))
    said = "\n\n".join(re.findall(r"# (def \w+\(prompt, text\): return .*)\n", OWN.read_text()))
    assert said.count("def ") == 2
    (tmp_path / "my_rules.py").write_text(said)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    small = ["--set", f"model={world / 'policy'}", "--set", "num_iterations=1", "--set", "generation.max_new_tokens=8"]
    assert fairplay(["run", str(OWN), *small]) == 0, capsys.readouterr().err
    run = tmp_path / "runs" / "own_data"
    assert (run / "report" / "index.html").is_file()
    assert (run / "iteration-1" / "5-checkpoint" / "model" / "model.safetensors").is_file()


ALL = sorted(path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
RUNS = [path for path in ALL if path.parts[0] in ("sppo", "dpo")]
METHODS = [path for path in ALL if path.parts[0] == "methods"]


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_a_recipe_of_a_real_model_is_whole_and_can_be_planned(path, world):
    """Models and data are on the hub, so the plan is made on local prompts; everything else is as it stands."""
    local = [f"prompts.data={world}/prompts.jsonl", f"evaluation.prompts={world}/held_out_prompts.jsonl"]
    settings = read_run_settings(RECIPES / path, [*local, "prompts.num_per_iteration=8", "evaluation.num_prompts=4"])
    with suppress(ServiceError):  # no hub here
        check_settings(settings)
    plan = run_plan(settings, place=Place("h100", 8))
    assert plan["iterations"] == 3
    assert plan["seconds"] is None or plan["seconds"] > 0


@pytest.mark.parametrize("path", [path for path in RUNS if path.parts[0] == "sppo"], ids=str)
def test_hardware_is_laid_over_a_recipe_and_its_training_fits(path, world):
    local = [f"prompts.data={world}/prompts.jsonl", f"evaluation.prompts={world}/held_out_prompts.jsonl"]
    local += ["prompts.num_per_iteration=8", "evaluation.num_prompts=4"]
    for hardware, devices in (("1x80gb", 1), ("8x80gb", 8), ("nodes", 32)):
        settings = read_run_settings(RECIPES / path, [*local, f"@{RECIPES}/hardware/{hardware}.yaml"])
        with suppress(ServiceError):
            check_settings(settings)
        assert settings.objective["name"] == "sppo"
        assert settings.training.optim == "rmsprop"
        assert settings.training.examples_per_step * max(devices, 1) == 64
        memory = run_plan(settings, place=Place("h100", devices))["memory"]
        assert memory["training"] < memory["there"]


@pytest.mark.parametrize("hardware", ["", "1x80gb", "8x80gb", "nodes"])
@pytest.mark.parametrize("path", RUNS, ids=str)
def test_a_dry_run_needs_no_hub_and_says_what_it_could_not_read(path, hardware, capsys):
    """The command line that the recipe's own comment names, on the hardware that is laid over it."""
    devices = {"": 8, "1x80gb": 1, "8x80gb": 8, "nodes": 32}[hardware]
    over = ["--set", f"@{RECIPES}/hardware/{hardware}.yaml"] if hardware else []
    command = ["run", str(RECIPES / path), *over, "--dry-run", "--hardware", f"h100:{devices}", "--format", "json"]
    assert fairplay(command) == 0
    printed = capsys.readouterr()
    plan = json.loads(printed.out)
    assert (plan["usable_prompts"], plan["held_out_prompts"]) == (None, 500)
    assert plan["prompts_per_iteration"] == (20_000 if path.parts[0] == "sppo" else 6_500)
    assert plan["seconds"] > 60
    assert all(stage["seconds"] is not None for stage in plan["stages"])
    assert plan["memory"]["training"] < plan["memory"]["there"] or not hardware
    assert "the prompts were not read" in plan["assumptions"]
    assert f"not checked: {read_run_settings(RECIPES / path, []).prompts.data}" in printed.err


def test_a_dry_run_without_numbers_needs_the_data(capsys):
    command = ["run", str(RECIPES / "sppo" / "mistral-7b-instruct.yaml"), "--dry-run"]
    assert fairplay([*command, "--set", "prompts.num_per_iteration=0"]) == ServiceError.exit_code
    assert "a hub id needs a network" in capsys.readouterr().err


@pytest.mark.parametrize("path", [path for path in ALL if path.parts[0] in ("simpo", "sampo")], ids=str)
def test_offline_recipes_have_the_published_batch(path):
    settings = read_train_settings(RECIPES / path, [])
    assert build_objective(*split_objective(settings.objective)).name == path.parts[0]
    assert settings.training.examples_per_step == 128


def test_a_file_laid_over_replaces_what_names_itself_and_merges_the_rest(tmp_path):
    (tmp_path / "over.yaml").write_text("objective: {name: simpo}\ntraining: {max_length: 77}\n")
    document = recipe_in(tmp_path, seed=0)
    chosen = ["objective.eta=3", f"@{tmp_path}/over.yaml", "training.max_length=99"]
    settings = run_settings(document, chosen, source="demo", name="demo")
    assert settings.objective == {"name": "simpo"}
    assert settings.training.max_length == 99
    assert settings.training.learning_rate == float(document["training"]["learning_rate"])
    with pytest.raises(SettingsError, match="can't read this settings file"):
        run_settings(document, [f"@{tmp_path}/none.yaml"], source="demo", name="demo")


QUICK = ("spin", "nash_md", "gpo")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in METHODS],
)
def test_every_method_is_settings_of_one_loop(path, world, settings_of, tmp_path):
    few = ("num_iterations=1", "prompts.num_per_iteration=6", "evaluation.num_prompts=4")
    data = (f"prompts.data={world}/sft.jsonl",) if path.stem == "spin" else ()
    settings = settings_of(*few, *data, f"@{RECIPES / path}")
    run = RunDirectory(tmp_path / "run")
    run_loop(settings, run, should_stop=lambda: False)
    after = (run.folder(1, CHECKPOINT) / "model" / "model.safetensors").read_bytes()
    assert after != (world / "policy" / "model.safetensors").read_bytes()
    examples = read_records(run.folder(1, EXAMPLES) / "examples.parquet", TrainingExample)
    if path.stem == "spin":
        given = given_responses(f"{world}/sft.jsonl")
        assert all(example.responses[0].text == given[prompt_text(example.prompt)] for example in examples)


def test_spin_needs_data_with_responses(settings_of, world):
    with pytest.raises(DataError, match="prompts"):
        check_settings(settings_of("selection.kind=given-random"))
