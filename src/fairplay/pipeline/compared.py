"""What `fairplay compare` compares: verdicts or margins with all that must be alike, from a run, a folder or a file.

Left out: comparing (`comparing.py`). Floor 7. Whatever lies in a finished stage is checked against its manifest first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairplay.errors import DataError
from fairplay.lookup import nearest_hint
from fairplay.pipeline.checkpoint_stage import MARGINS
from fairplay.pipeline.context import EVALUATION
from fairplay.pipeline.evaluate_stage import RESPONSES_FOLDER, judgements_path
from fairplay.pipeline.pair_accuracy import MARGINS_NAME, PairMargin
from fairplay.pipeline.results import read_results
from fairplay.pipeline.single_evaluation import JUDGEMENTS_NAME, POLICY
from fairplay.records import Judgement, ResponseGroup
from fairplay.storage.manifest import Manifest, refuse_damage
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts
from fairplay.storage.tables import read_records

ITERATION_MARK = "@"


@dataclass(frozen=True)
class Compared:
    """One side of a paired comparison; an empty text means that it is not known.

    Attributes:
        title: What it is called.
        judgements: Verdicts; empty where margins are compared.
        margins: Kind of margin -> pair -> margin.
        judge: Kind and identity of the judge.
        opponent: Against whom the policy was judged.
        opponent_content: What identifies the opponent's responses.
        texts: Prompt id -> the prompt's text.
    """

    title: str
    judgements: Sequence[Judgement] = ()
    margins: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    judge: str = ""
    opponent: str = ""
    opponent_content: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def units(self) -> frozenset[str]:
        """The prompts, or the pairs."""
        if self.judgements:
            return frozenset(one.prompt_id for one in self.judgements)
        return frozenset(pair for pairs in self.margins.values() for pair in pairs)


def find_compared(source: str, opponent: str, role: str) -> Compared:
    """Read one side.

    Args:
        source: A run (its last iterate), `RUN@ITERATION`, the folder of `fairplay evaluate`, or a file of verdicts or
            of margins.
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
    results = read_results(folder, ("run", "comparison", "accuracy"))
    if results["kind"] == "run":
        last = results["iterations"][-1]["iteration"]
        return _of_run(source, folder, int(iteration) if is_numbered else last, opponent, role)
    stage, manifest = _stage(folder, 1)
    if results["kind"] == "accuracy":
        return Compared(source, margins=_margins(stage / MARGINS_NAME))
    return Compared(
        source,
        judgements=read_records(stage / JUDGEMENTS_NAME, Judgement),
        judge=results["judge"],
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
        opponent=opponent,
        opponent_content=manifest.inputs[f"opponent {opponent}"],
        texts=_texts(stage / RESPONSES_FOLDER),
    )


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
            return Compared(source, margins=_margins(path))
        except DataError:
            raise not_verdicts from None


def _margins(path: Path) -> dict[str, dict[str, float]]:
    rows = read_records(path, PairMargin)
    found = {kind: {row.pair: getattr(row, kind) for row in rows} for kind in MARGINS}
    return {kind: pairs for kind, pairs in found.items() if None not in pairs.values()}


def _texts(folder: Path) -> dict[str, str]:
    groups = read_parts(folder, ResponseGroup)
    return {
        group.prompt.id: json.dumps([[message.role, message.content] for message in group.prompt.messages])
        for group in groups
    }
