"""`fairplay verify`: every headline number of a run once more from its raw verdicts, and every file against its hash.

Left out: recomputing one stage's figures (`recomputing.py`). Floor 7. Nothing is written, no model is loaded, no judge
is asked.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isclose
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, EXAMPLES, GAME, GATES, PREFERENCES, PROMPTS, RESPONSES
from fairplay.pipeline.findings import Finding, without_intervals
from fairplay.pipeline.judged_folder import KINDS as JUDGED
from fairplay.pipeline.judged_folder import damaged_files, told_as_damage
from fairplay.pipeline.oracle_stages import ORACLE, PAIRS, START
from fairplay.pipeline.recomputing import Manifests, recomputed
from fairplay.pipeline.recomputing_judged import recomputed_judged
from fairplay.pipeline.results import RESULTS_NAME, read_results, titled
from fairplay.records import STATISTICS_VERSION
from fairplay.storage.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_files
from fairplay.storage.run_directory import SETTINGS_NAME

_TOLERANCE = 1e-9  # of a recomputed number: another machine may round differently
_MOST_TOLD = 3
_OWN, _BEFORE = 0, -1
_CHECKPOINT_NAME = re.compile(r"start|iteration \d+")  # a game's other inputs are its judge's
# Stage -> input -> the stage whose content it must be, in the same iteration or the one before.
_CHAIN: Mapping[str, Mapping[str, tuple[int, str]]] = {
    RESPONSES: {"prompts": (_OWN, PROMPTS), "policy": (_BEFORE, CHECKPOINT)},
    PREFERENCES: {"responses": (_OWN, RESPONSES)},
    EXAMPLES: {"preferences": (_OWN, PREFERENCES)},
    CHECKPOINT: {"examples": (_OWN, EXAMPLES), "policy": (_BEFORE, CHECKPOINT)},
    EVALUATION: {"policy": (_OWN, CHECKPOINT), "opponent previous": (_BEFORE, EVALUATION)},
    GATES: {"start": (_OWN, EVALUATION)},
    START: {"pairs": (_OWN, PAIRS)},
    ORACLE: {"pairs": (_OWN, PAIRS)},
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Attributes:
        what: What, with its place in the run.
        agrees: Whether what is written is what follows.
        told: What differs, or was not compared; empty where nothing does, or was.
    """

    what: str
    agrees: bool
    told: str = ""


def verify(folder: Path) -> dict[str, Any]:
    """Check a run, an offline or an oracle's training, or a folder of `fairplay evaluate` or `fairplay judge`.

    Args:
        folder: Its folder.

    Returns:
        `agrees`, and `checks`: each `what`, whether it `agrees`, and what was `told` where it does not.

    Raises:
        DataError: If there is no finished stage in the folder.
    """
    if (kind := _kind(folder)) in JUDGED:
        results = read_results(folder, (kind,))
        with told_as_damage(folder):
            files = [Check(f"{name}: file", not told, told) for name, told in damaged_files(folder, results).items()]
            return _told_all(folder, [*files, *_stages(recomputed_judged(folder, results))])
    paths = sorted(folder.glob(f"iteration-*/*/{MANIFEST_NAME}"))
    if not paths or not (folder / SETTINGS_NAME).is_file():
        what = "no finished stage of a run in it" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {what}", hint="name the folder of a run")
    checks: list[Check] = []
    manifests: dict[tuple[int, str], Manifest] = {}
    for path in paths:
        place = f"{path.parent.parent.name}/{path.parent.name}"
        try:
            manifest = read_manifest(path.parent)
        except DataError as fault:
            checks.append(Check(f"{place}: manifest", False, fault.message))
            continue
        manifests[manifest.iteration, manifest.stage] = manifest
        faults = verify_files(path.parent, manifest)
        checks.append(Check(f"{place}: files", not faults, "; ".join(faults)))
    checks += _chain(manifests)
    checks += _stages(recomputed(folder, manifests))
    return _told_all(folder, checks)


def _kind(folder: Path) -> str:
    """What the results in a folder say they are; empty where there are none that can be read."""
    try:
        return str(json.loads((folder / RESULTS_NAME).read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _told_all(folder: Path, checks: Sequence[Check]) -> dict[str, Any]:
    documents = [asdict(check) for check in checks]
    agrees = all(check.agrees for check in checks)
    return titled("verification", {"folder": str(folder), "agrees": agrees, "checks": documents})


def _chain(manifests: Manifests) -> Iterator[Check]:
    """Whether each stage was made from what now lies before it."""
    for (iteration, stage), manifest in sorted(manifests.items()):
        wanted = {name: (iteration + step, other) for name, (step, other) in _CHAIN.get(stage, {}).items()}
        if stage == EVALUATION and iteration == 1:
            wanted["opponent previous"] = (0, EVALUATION)
        if stage == EVALUATION:
            wanted["opponent start"] = (0, EVALUATION)
        if stage == GAME:
            wanted |= {
                name: (_number(name), EVALUATION) for name in manifest.inputs if _CHECKPOINT_NAME.fullmatch(name)
            }
        stale = [
            name
            for name, source in wanted.items()
            if name in manifest.inputs and source in manifests and manifests[source].content != manifest.inputs[name]
        ]
        told = f"made from other content than what lies there now: {', '.join(stale)}" if stale else ""
        yield Check(f"iteration-{iteration}/{stage}: inputs", not stale, told)


def _number(checkpoint: str) -> int:
    return 0 if checkpoint == "start" else int(checkpoint.rpartition(" ")[2])


def _stages(found: Iterable[Finding]) -> Iterator[Check]:
    """Each finding as a check; of figures that other statistics made, only what does not depend on these must agree."""
    for finding in found:
        if finding.fault:
            yield Check(finding.what, False, f"can't be recomputed: {finding.fault}")
            continue
        apart, other = list(differences(finding.stored, finding.follows)), ""
        if apart and finding.version != STATISTICS_VERSION:
            apart = list(differences(without_intervals(finding.stored), without_intervals(finding.follows)))
            made = f"statistics {finding.version}, this release has {STATISTICS_VERSION}"
            other = f"its intervals are by {made}: not compared"
        more = f" and {len(apart) - _MOST_TOLD} more" if len(apart) > _MOST_TOLD else ""
        yield Check(finding.what, not apart, "; ".join([other] * bool(other) + apart[:_MOST_TOLD]) + more)


def differences(stored: Any, recomputed: Any, name: str = "") -> Iterator[str]:
    """Where two pieces of plain data are apart, each with its name and both values."""
    if isinstance(stored, Mapping) and isinstance(recomputed, Mapping):
        for key in [*stored, *(key for key in recomputed if key not in stored)]:
            place = f"{name}.{key}" if name else str(key)
            yield from differences(stored.get(key, "nothing"), recomputed.get(key, "nothing"), place)
    elif isinstance(stored, list | tuple) and isinstance(recomputed, list | tuple) and len(stored) == len(recomputed):
        for index, (one, other) in enumerate(zip(stored, recomputed, strict=True)):
            yield from differences(one, other, f"{name}[{index}]")
    elif not _equal(stored, recomputed):
        yield f"{name}: written {_told(stored)}, follows {_told(recomputed)}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
        return numbers and isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(one == other) and type(one) is type(other)


def _told(value: Any) -> str:
    return json.dumps(value, default=str)[:80]
