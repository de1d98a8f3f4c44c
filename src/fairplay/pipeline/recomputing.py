"""The figures of finished stages once more, from the responses and verdicts that lie in them.

Left out: what is made of the differences (`verifying.py`). Floor 7. Nothing is written, no model is
loaded, no judge is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fairplay.evaluation.canaries import canary_result
from fairplay.evaluation.injection import scan_responses
from fairplay.evaluation.judging import Judged
from fairplay.evaluation.overlap import prompt_overlap
from fairplay.evaluation.preference_accuracy import preference_accuracy
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.pipeline.canary_games import canary_path
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, GAME, GATES, RunContext
from fairplay.pipeline.evaluate_stage import RESPONSES_FOLDER, held_out_prompts, judgements_path, oracle_gaps
from fairplay.pipeline.findings import Finding, compute_again, version_of, version_of_results, written_results
from fairplay.pipeline.game_stage import game_figures, kept_games
from fairplay.pipeline.margins import MARGINS, MARGINS_NAME, example_of, read_margins
from fairplay.pipeline.pair_accuracy import accuracy_document
from fairplay.pipeline.recomputing_oracle import recomputed_oracle
from fairplay.pipeline.recomputing_training import recomputed_training
from fairplay.pipeline.results import run_results
from fairplay.pipeline.settings import RunSettings
from fairplay.pipeline.single_evaluation import JUDGEMENTS_NAME, OPPONENT, POLICY, comparison_document
from fairplay.pipeline.stages import training_prompts
from fairplay.records import Dropped, Judgement, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory
from fairplay.storage.settings_file import build_settings, read_yaml
from fairplay.storage.shards import read_parts
from fairplay.storage.tables import read_records

_HEADLINES = ("win_rate", "lc_win_rate")
_NOT_FIGURES = frozenset({"notes", "role", "length_unit"})
Manifests = Mapping[tuple[int, str], Manifest]


@dataclass(frozen=True, slots=True)
class _Made:
    """How a stage made its intervals: seed and resamples of the bootstrap, and the version of the statistics."""

    seed: int
    num_bootstrap: int
    version: int


def _made(seed: int, manifest: Manifest) -> _Made:
    number = int(manifest.settings.get("num_bootstrap", 0))  # nobody judges iteration 0
    return _Made(stable_seed(seed, "bootstrap"), number, version_of(manifest))


def recomputed(folder: Path, manifests: Manifests) -> Iterator[Finding]:
    """Everything that can be computed again in a run, or in a folder of `fairplay evaluate`.

    Args:
        folder: Its folder.
        manifests: Its stages whose manifests are whole.
    """
    document = read_yaml(folder / SETTINGS_NAME)
    if POLICY in document:
        kind = _accuracy if "data" in document else _comparison
        if (1, EVALUATION) in manifests:
            yield from kind(folder, document, manifests[1, EVALUATION])
    elif "num_calibration" in document:
        yield from recomputed_oracle(folder, document, manifests)
    elif "data" in document:
        yield from recomputed_training(folder, document, manifests)
    else:
        yield from _run(folder, document, manifests)


def _run(folder: Path, document: Mapping[str, Any], manifests: Manifests) -> Iterator[Finding]:
    settings = build_settings(RunSettings, document, str(folder / SETTINGS_NAME))
    context = RunContext(RunDirectory(folder), settings, lambda: False)
    for (iteration, stage), manifest in sorted(manifests.items()):
        place = f"iteration-{iteration}/{stage}"
        if stage == EVALUATION:
            yield from _evaluation(context, iteration, place, manifest)
        elif stage == GATES:
            yield from _gates(context, place, manifest)
        elif stage == GAME:
            yield compute_again(
                f"{place}: all checkpoints against each other",
                partial(dict, manifest.results),
                lambda: game_figures(context, kept_games(context)),
                version=version_of(manifest),
            )
        elif stage == CHECKPOINT:
            yield Finding(f"{place}: objective", manifest.settings["objective"], settings.objective)
    yield compute_again(
        "results.json",
        lambda: written_results(folder),
        lambda: run_results(context),
        version=version_of_results(manifests.values()),
    )


def _evaluation(context: RunContext, iteration: int, place: str, manifest: Manifest) -> Iterator[Finding]:
    folder, results = context.run.folder(iteration, EVALUATION), manifest.results
    yield compute_again(
        f"{place}: responses",
        lambda: {key: results[key] for key in ("lengths", "num_cut_at_length", "markers") if key in results},
        lambda: _responses(read_parts(folder / RESPONSES_FOLDER, ResponseGroup), "markers" in results),
    )
    made = _made(context.settings.seed, manifest)
    for stored in results.get("evaluations", ()):
        path = judgements_path(folder, stored["opponent"], stored["role"])
        what = f"{place}: win rate against {stored['opponent']} by the {stored['role']}"
        yield _judged(what, path, stored, made)
    if iteration > 0:
        yield compute_again(
            f"{place}: oracle minus judge",
            lambda: results["oracle_gaps"],
            lambda: oracle_gaps(context, iteration, folder),
            version=made.version,
        )


def _responses(groups: Sequence[ResponseGroup], has_markers: bool) -> dict[str, Any]:
    responses = [response for group in groups for response in group.responses]
    return {
        "lengths": [len(response.token_ids) for response in responses],
        "num_cut_at_length": sum(response.finish_reason == "length" for response in responses),
        **({"markers": asdict(scan_responses(groups))} if has_markers else {}),
    }


def _judged(what: str, path: Path, stored: Mapping[str, Any], made: _Made) -> Finding:
    keys = (*_HEADLINES, *(key for key in stored if key not in _HEADLINES))  # what a reader looks at is told first
    figures = {key: stored[key] for key in keys if key not in _NOT_FIGURES}

    def follows() -> dict[str, Any]:
        result = evaluate_judgements(
            read_records(path, Judgement),
            policy=stored["policy"],
            opponent=stored["opponent"],
            judge=stored["judge"],
            dropped=_dropped(stored["dropped"]),
            seed=made.seed,
            num_bootstrap=made.num_bootstrap,
        )
        return {key: value for key, value in asdict(result).items() if key in figures}

    return compute_again(what, lambda: figures, follows, version=made.version)


def _dropped(counts: Mapping[str, int]) -> tuple[Dropped, ...]:
    return tuple(Dropped("", reason) for reason, count in counts.items() for _ in range(count))


def _gates(context: RunContext, place: str, manifest: Manifest) -> Iterator[Finding]:
    folder = context.run.folder(0, GATES)
    yield from _canaries(folder, place, manifest.results["canaries"], _made(context.settings.seed, manifest))
    found = compute_again(
        f"{place}: overlap of prompts",
        lambda: manifest.results["overlap"],
        lambda: asdict(prompt_overlap(training_prompts(context)[0], held_out_prompts(context))),
    )
    if not found.fault:  # prompts that have moved away since can't be counted again, and that is no fault
        yield found


def _canaries(folder: Path, place: str, canaries: Sequence[Mapping[str, Any]], made: _Made) -> Iterator[Finding]:
    for stored in canaries:
        follows = partial(_canary, folder, stored, made)
        what = f"{place}: canary {stored['canary']}"
        yield compute_again(what, partial(dict, stored), follows, version=made.version)


def _canary(folder: Path, stored: Mapping[str, Any], made: _Made) -> dict[str, Any]:
    judgements = tuple(read_records(canary_path(folder, stored["canary"]), Judgement))
    judged = Judged(judgements, _dropped(stored["dropped"]), "", ())
    found = asdict(canary_result(stored["canary"], judged, seed=made.seed, num_bootstrap=made.num_bootstrap))
    told, follows = stored["alarm"], found["alarm"]  # advice comes after: by the kind of judge, none in older releases
    is_same = told and follows and (told.startswith(follows) or follows.startswith(told))
    return found | ({"alarm": told} if is_same else {})


def _comparison(folder: Path, document: Mapping[str, Any], manifest: Manifest) -> Iterator[Finding]:
    stage, results = RunDirectory(folder).folder(1, EVALUATION), manifest.results
    made, place = _made(int(document["seed"]), manifest), f"iteration-1/{EVALUATION}"
    yield _judged(f"{place}: win rate", stage / JUDGEMENTS_NAME, results["evaluation"], made)
    yield from _canaries(stage, place, results["canaries"], made)
    yield compute_again(
        f"{place}: markers",
        lambda: results["markers"],
        lambda: {side: asdict(scan_responses(read_parts(stage / side, ResponseGroup))) for side in (POLICY, OPPONENT)},
    )
    yield compute_again(
        "results.json",
        lambda: written_results(folder),
        lambda: comparison_document(str(document[POLICY]), manifest),
        version=made.version,
    )


def _accuracy(folder: Path, document: Mapping[str, Any], manifest: Manifest) -> Iterator[Finding]:
    stage = RunDirectory(folder).folder(1, EVALUATION)
    kinds = [kind for kind in MARGINS if kind in manifest.results]

    def follows() -> dict[str, Any]:
        found = read_margins(stage / MARGINS_NAME)
        return {
            kind: asdict(preference_accuracy(list(found[kind].values()), list(map(example_of, found[kind]))))
            for kind in kinds
        }

    yield compute_again(
        f"iteration-1/{EVALUATION}: accuracy",
        lambda: {kind: manifest.results[kind] for kind in kinds},
        follows,
        version=version_of(manifest),
    )
    yield compute_again(
        "results.json",
        lambda: written_results(folder),
        lambda: accuracy_document(str(document[POLICY]), str(document["data"]), manifest),
        version=version_of(manifest),
    )
