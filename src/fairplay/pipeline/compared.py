"""What `fairplay compare` compares: verdicts or margins with all that must be alike, from a run, a folder or a file.

Left out: comparing (`comparing.py`). Floor 7. Whatever lies in a finished stage is checked against its manifest first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.protocols.scores import as_judged
from fairplay.lookup import nearest_hint
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, EXAMPLES
from fairplay.pipeline.evaluate_stage import RESPONSES_FOLDER, judgements_path
from fairplay.pipeline.judged_folder import KINDS as JUDGED
from fairplay.pipeline.judged_folder import damaged_files, read_games, read_grades, told_as_damage
from fairplay.pipeline.margins import AFTER_NAME, BEFORE_NAME, MARGINS_NAME, PLACE_MARK, read_margins
from fairplay.pipeline.results import comparison, read_results
from fairplay.pipeline.single_evaluation import JUDGEMENTS_NAME, POLICY
from fairplay.pipeline.stages import HELD_OUT_NAME
from fairplay.records import Judgement, ResponseGroup, TrainingExample
from fairplay.storage.digests import sha256_value
from fairplay.storage.manifest import Manifest, refuse_damage
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts
from fairplay.storage.tables import read_records

ITERATION_MARK = "@"
VERDICTS, RATINGS, MARGINS = "verdicts", "ratings", "margins"
_NOT_ASKED = ("base_url", "template", "seed")
"""Of what a judge was asked: places, and draws that decide orders and intervals alone."""
_NOT_IDENTITY = (*_NOT_ASKED, "batch_size", "revision", "orders", "num_anchors")
"""Of a judge's settings in an evaluation: what its weights' hash covers too, and economies that no judge makes."""


@dataclass(frozen=True)
class Compared:
    """One side of a paired comparison; an empty text means that it is not known.

    Attributes:
        title: What it is called.
        judgements: Verdicts; empty where something else is compared.
        margins: Kind of margin -> pair -> margin.
        ratings: Answer (`question#turn`) -> grade.
        judge: Kind and identity of the judge.
        asked: What else decides what the judge was asked, and how it was read: settings, and hashes of what it is.
        alarms: What the canaries say against this judge.
        figures: What the evaluation itself says of all its prompts, intervals included, as results have it.
        opponent: Against whom the policy was judged.
        opponent_content: What identifies the opponent's responses.
        texts: Prompt (or pair) -> its text.
    """

    title: str
    judgements: Sequence[Judgement] = ()
    margins: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    judge: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    alarms: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    opponent: str = ""
    opponent_content: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What is compared."""
        return VERDICTS if self.judgements else RATINGS if self.ratings else MARGINS

    @property
    def units(self) -> frozenset[str]:
        """The prompts, the answers, or the pairs."""
        if self.kind == VERDICTS:
            return frozenset(one.prompt_id for one in self.judgements)
        if self.kind == RATINGS:
            return frozenset(self.ratings)
        return frozenset(pair for pairs in self.margins.values() for pair in pairs)


def find_compared(source: str, opponent: str, role: str) -> Compared:
    """Read one side.

    Args:
        source: A run (its last iterate), `RUN@ITERATION`, an offline training (`@0`: before it), the folder of
            `fairplay evaluate` or `fairplay judge`, or a file of verdicts or of margins.
        opponent: For a run: against whom its iterate was judged.
        role: For a run: by whom.

    Raises:
        DataError: If there is no such thing, or it was damaged.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _of_file(source, path)
    name, mark, iteration = source.rpartition(ITERATION_MARK)
    is_numbered = bool(mark) and iteration.isdigit() and not path.is_dir()
    folder = Path(name).expanduser() if is_numbered else path
    if not folder.is_dir():
        raise DataError(f"{source}: no such folder or file", hint="a run, RUN@ITERATION, an evaluation, or a file")
    results = read_results(folder, ("run", "comparison", "accuracy", "training", *JUDGED))
    if results["kind"] in JUDGED:
        with told_as_damage(folder):
            return _of_judging(source, folder, results)
    if results["kind"] == "training":
        return _of_training(source, folder, int(iteration) if is_numbered else 1)
    if results["kind"] == "run":
        last = results["iterations"][-1]["iteration"]
        one = _of_run(source, folder, int(iteration) if is_numbered else last, opponent, role)
        return replace(one, alarms=_alarms(results)) if role == "judge" else one
    stage, manifest = _stage(folder, 1)
    if results["kind"] == "accuracy":
        return Compared(source, margins=read_margins(stage / MARGINS_NAME))
    return Compared(
        source,
        judgements=read_records(stage / JUDGEMENTS_NAME, Judgement),
        judge=results["judge"],
        asked=_identity(manifest, "judge"),
        alarms=_alarms(results),
        figures=comparison(manifest.results["evaluation"]),
        opponent=results["opponent"],
        opponent_content=manifest.inputs["opponent"],
        texts=_texts(stage / POLICY),
    )


def _of_run(source: str, run: Path, iteration: int, opponent: str, role: str) -> Compared:
    stage, manifest = _stage(run, iteration)
    found = {(item["opponent"], item["role"]): item for item in manifest.results.get("evaluations", ())}
    if (opponent, role) not in found:
        names = sorted({name for name, _ in found})
        raise DataError(
            f"{source}: iteration {iteration} was not judged against `{opponent}` by the {role}",
            hint=nearest_hint(opponent, names) if names else "the start policy is judged against nobody",
        )
    return Compared(
        f"{source}{ITERATION_MARK}{iteration}" if ITERATION_MARK not in source else source,
        judgements=read_records(judgements_path(stage, opponent, role), Judgement),
        judge=found[opponent, role]["judge"],
        asked=_identity(manifest, role),
        figures=comparison(found[opponent, role]),
        opponent=opponent,
        opponent_content=manifest.inputs[f"opponent {opponent}"],
        texts=_texts(stage / RESPONSES_FOLDER),
    )


def _of_judging(source: str, folder: Path, results: Mapping[str, Any]) -> Compared:
    """A folder of `fairplay judge`; prompts are known by what was asked, as there."""
    damaged = [f"{name} {told}" for name, told in damaged_files(folder, results).items() if told]
    if damaged:
        raise DataError(f"{folder}: {', '.join(damaged)}", hint="run `fairplay judge` on this folder again")
    asked = {key: value for key, value in results["asked"].items() if key not in _NOT_ASKED}
    if results["kind"] == "grading":
        grades = [item for item in read_grades(folder) if item.rating is not None]
        ratings = {f"{item.question.id}{PLACE_MARK}{item.turn + 1}": item.rating or 0.0 for item in grades}
        known: Any = {"alarms": _alarms(results), "figures": results["overall"]}
        return Compared(source, ratings=ratings, judge=results["judge"], asked=asked, **known)
    played = read_games(folder, results)
    names = {item.pair.prompt.id: _prompt_name(item.pair.prompt.messages[0].content) for item in played.pairs}
    theirs = sorted([names[item.pair.prompt.id], item.pair.opponent] for item in played.pairs)
    return Compared(
        source,
        judgements=[replace(one, prompt_id=names[one.prompt_id]) for one in as_judged(played).judgements],
        judge=results["comparison"]["judge"],
        asked=asked,
        alarms=_alarms(results),
        figures=results["comparison"],
        opponent=results["comparison"]["opponent"],
        opponent_content=sha256_value(theirs),
    )


def _identity(manifest: Manifest, role: str) -> dict[str, Any]:
    """What makes a judge this one and no other of its name: settings that decide, hashes of weights or code."""
    settings = _leaves(manifest.settings.get(role, {}))
    told = {key: value for key, value in settings.items() if key.rpartition(".")[2] not in _NOT_IDENTITY}
    start = f"{role} "
    hashes = {key.removeprefix(start): value for key, value in manifest.inputs.items() if key.startswith(start)}
    return told | {f"sha256 of its {name}": digest for name, digest in hashes.items()}


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Plain data as dotted path -> value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= _leaves(inner, f"{path}.{key}" if path else str(key))
    return found if isinstance(value, Mapping | list) else {path: value}


def _alarms(results: Mapping[str, Any]) -> list[str]:
    """Of canaries that won; older releases tried none."""
    return [one["alarm"] for one in results.get("gates", {}).get("canaries", ()) if one["alarm"]]


def _prompt_name(text: str) -> str:
    """A prompt's beginning, and the hash of all of it."""
    return f"{' '.join(text.split())[:40]} ({sha256_value(text)[:12]})"


def _of_training(source: str, folder: Path, iteration: int) -> Compared:
    """An offline training's held-out pairs: after it, or at 0 before it."""
    run = RunDirectory(folder)
    stage, examples = run.folder(1, CHECKPOINT), run.folder(1, EXAMPLES)
    for part, place in ((CHECKPOINT, stage), (EXAMPLES, examples)):
        refuse_damage(place, run.manifest(1, part))
    name = (BEFORE_NAME, AFTER_NAME)[min(iteration, 1)]
    if not (stage / name).is_file():
        raise DataError(
            f"{source}: its margins on held-out pairs were not kept",
            hint="train with --held-out or --num-held-out; older releases kept none",
        )
    pairs = read_records(examples / HELD_OUT_NAME, TrainingExample)
    texts = {
        f"{example.id}{PLACE_MARK}{place}": json.dumps(
            [
                [[message.role, message.content] for message in example.prompt.messages],
                *(example.responses[side].text for side in sides),
            ]
        )
        for example in pairs
        for place, sides in enumerate(example.pairs)
    }
    return Compared(source, margins=read_margins(stage / name), texts=texts)


def _stage(folder: Path, iteration: int) -> tuple[Path, Manifest]:
    run = RunDirectory(folder)
    manifest = run.manifest(iteration, EVALUATION)
    refuse_damage(run.folder(iteration, EVALUATION), manifest)
    return run.folder(iteration, EVALUATION), manifest


def _of_file(source: str, path: Path) -> Compared:
    try:
        return Compared(source, judgements=read_records(path, Judgement))
    except DataError as not_verdicts:
        try:
            return Compared(source, margins=read_margins(path))
        except DataError:
            raise not_verdicts from None


def _texts(folder: Path) -> dict[str, str]:
    groups = read_parts(folder, ResponseGroup)
    return {
        group.prompt.id: json.dumps([[message.role, message.content] for message in group.prompt.messages])
        for group in groups
    }
