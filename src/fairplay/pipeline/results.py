"""Results for programs: the one form of `results.json` and of what verbs print as JSON, by a versioned schema.

The schema is `results.schema.json` beside this file; `docs/results.md` tells it in words. Left out: the page for people
(`report_stage.py`). Floor 7.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.paired_tests import holm
from fairplay.headline import headline_document
from fairplay.objectives.table import resolved_objective
from fairplay.pipeline.benchmark_stage import benchmark_results
from fairplay.pipeline.context import EVALUATION, RESPONSES, RunContext
from fairplay.pipeline.game_stage import checkpoint_name, game_results
from fairplay.pipeline.gates_stage import gates_results
from fairplay.storage.atomic import write_atomic

RESULTS_NAME = "results.json"
SCHEMA_PATH = Path(__file__).with_name("results.schema.json")
SCHEMA_VERSION = 2
_INTERVAL = {"value", "low", "high"}
_HEADLINE = ("win_rate", "win_rate_ci", "lc_win_rate", "lc_win_rate_ci", "mean_length", "opponent", "judge", "n")
_WITHHELD = ("headline", "headline_withheld")


def titled(kind: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A result with what it is and the version of its form in front."""
    return {"schema_version": SCHEMA_VERSION, "kind": kind, **document}


def with_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Records as plain data, every estimate `x` with its 95 % interval as `x_ci: [low, high]` beside it."""
    told: dict[str, Any] = {}
    for key, value in values.items():
        if _are_intervals(value):
            told[key], told[f"{key}_ci"] = _each(value, "value"), _each(value, "low", "high")
        elif isinstance(value, Mapping):
            told[key] = with_intervals(value)
        elif isinstance(value, list | tuple):
            told[key] = [with_intervals(item) if isinstance(item, Mapping) else item for item in value]
        else:
            told[key] = value
    return told


def _are_intervals(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_are_intervals, value))
    return isinstance(value, Mapping) and value.keys() == _INTERVAL


def _each(value: Any, *ends: str) -> Any:
    """One end, or a list of both, of an interval or of all in a matrix of them."""
    if isinstance(value, list | tuple):
        return [_each(item, *ends) for item in value]
    return value[ends[0]] if len(ends) == 1 else [value[end] for end in ends]


def comparison(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison as every result has it: rates in [0, 1], 95 % intervals as [low, high].

    Args:
        evaluation: An `EvaluationResult` as plain data, with its `role` and `length_unit`.
    """
    names = {"num_prompts": "n", "overlap": "length_overlap"}
    told = {names.get(key, key): value for key, value in with_intervals(evaluation).items() if key != "worst_case"}
    statistics = told.pop("statistics", None) or {}  # older releases had none
    return {**{key: told[key] for key in ("opponent", "judge", "role", "n")}, **told, **statistics}


def whole_comparison(evaluation: Mapping[str, Any], alarms: Sequence[str]) -> dict[str, Any]:
    """A comparison with its headline, or why there is none; see `comparison` and `headline_document`."""
    return {**comparison(evaluation), **with_intervals(headline_document(evaluation, alarms))}


def holm_p_values(context: RunContext) -> dict[tuple[int, str], float]:
    """(iteration, opponent) -> p-value by Holm, over the comparisons that every run declares in advance.

    These are the judge's: each iterate against the one before it, and the last one against the start, so far as the
    settings have them judged. All others are exploratory.
    """
    last = context.settings.num_iterations
    declared = {}
    for iteration in range(1, last + 1):
        for evaluation in context.run.manifest(iteration, EVALUATION).results["evaluations"]:
            opponent, statistics = evaluation["opponent"], evaluation.get("statistics")
            in_family = opponent == "previous" or iteration in (1, last)
            if evaluation["role"] == "judge" and in_family and statistics:
                declared[iteration, opponent] = statistics["p_value"]
    adjusted = holm({f"{iteration} {opponent}": p_value for (iteration, opponent), p_value in declared.items()})
    return {(iteration, opponent): adjusted[f"{iteration} {opponent}"] for iteration, opponent in declared}


def run_results(context: RunContext) -> dict[str, Any]:
    """The whole document: each iteration's headline (the judge, against the first opponent) and every comparison."""
    settings = context.settings
    iterations, adjusted, gates = [], holm_p_values(context), run_gates(context)
    alarms = {"judge": [canary["alarm"] for canary in gates.get("canaries", ()) if canary["alarm"]], "oracle": []}
    for iteration in range(1, settings.num_iterations + 1):
        results = context.run.manifest(iteration, EVALUATION).results
        comparisons = [whole_comparison(one, alarms[one["role"]]) for one in results["evaluations"]]
        for one in comparisons:
            judged = one["role"] == "judge"
            one["p_value_holm"] = adjusted.get((iteration, one["opponent"])) if judged else None
        iterations.append(
            {
                "iteration": iteration,
                **{key: comparisons[0][key] for key in _HEADLINE},
                **{key: comparisons[0][key] for key in _WITHHELD if key in comparisons[0]},
                "lc_extrapolates": comparisons[0].get("lc_extrapolates", False),
                "comparisons": comparisons,
                "oracle_gaps": {name: with_intervals(gap) for name, gap in results["oracle_gaps"].items()},
                "sampling_mismatch": sampling_mismatch_of(context, iteration),
            }
        )
    document = {
        "name": settings.name,
        "seed": settings.seed,
        "objective": resolved_objective(settings.objective),
        "iterations": iterations,
        "checkpoints": with_intervals(game_results(context)),
        "benchmarks": benchmark_results(context),
        "gates": gates,
    }
    return titled("run", document)


def sampling_mismatch_of(context: RunContext, iteration: int) -> dict[str, float]:
    """How far the engine's log-probs were from the trainer's; empty where the engine told none."""
    return dict(context.run.manifest(iteration, RESPONSES).results.get("sampling_mismatch", {}))


def run_gates(context: RunContext) -> dict[str, Any]:
    """What the honesty gates found: the judge, its canaries, overlap of prompts, markers in responses by policy.

    A run of a release that had no gates has only those parts that can be told.
    """
    manifests = [(i, context.run.manifest(i, EVALUATION)) for i in range(context.settings.num_iterations + 1)]
    found = with_intervals(gates_results(context))
    markers = [
        {"policy": checkpoint_name(iteration), **manifest.results["markers"]}
        for iteration, manifest in manifests
        if "markers" in manifest.results
    ]
    return {"oracle_is_judge": oracle_is_judge(context), **found, "markers": markers}


def oracle_is_judge(context: RunContext) -> bool:
    """Whether training oracle and judge are one: by name, or the same weights wherever they lie."""
    manifest = context.run.manifest(1, EVALUATION)
    names = {item["role"]: item["judge"] for item in manifest.results["evaluations"]}
    kinds = {context.settings.oracle.kind, context.settings.evaluation.judge.kind}
    judge, oracle = (
        {key.removeprefix(role): digest for key, digest in manifest.inputs.items() if key.startswith(f"{role} ")}
        for role in ("judge", "oracle")
    )
    same_weights = len(kinds) == 1 and kinds != {"rule"} and judge == oracle
    return same_weights or names["judge"] == names["oracle"]


def write_results(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `results.json` at the top of a folder."""
    write_atomic(folder / RESULTS_NAME, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_results(path: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """A result that fairplay wrote.

    Args:
        path: The file, or the folder with `results.json` in it.
        kinds: What it may be, such as `run`.

    Raises:
        DataError: If it is not there, is no result of these kinds, or its form has a newer version than this release
            reads, or an older one.
    """
    path = path / RESULTS_NAME if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="is the run finished? name its folder") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't read results from it ({error})", hint="is the run finished?") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{path}: no `schema_version`, so it is no result of fairplay")
    if version != SCHEMA_VERSION:
        hint = "a newer fairplay wrote it: update" if version > SCHEMA_VERSION else "`fairplay report RUN` renews it"
        raise DataError(f"{path}: results of schema version {version}, this release reads {SCHEMA_VERSION}", hint=hint)
    if document.get("kind") not in kinds:
        raise DataError(f"{path}: a result of kind `{document.get('kind')}`, expected {' or '.join(kinds)}")
    return dict(document)
