"""Benchmarks of one checkpoint as plain data, kept as each is done, and what alignment cost against another checkpoint.

Left out: the harness (`harness.py`). Floor 5.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.errors import Preempted
from fairplay.evaluation.benchmarks.harness import Harness, HarnessResult, harness_versions
from fairplay.evaluation.benchmarks.items import Item, paired_difference, value_with_interval
from fairplay.evaluation.benchmarks.loaded_model import LoadedModel
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.evaluation.benchmarks.table import BENCHMARKS
from fairplay.storage.atomic import write_atomic
from fairplay.storage.digests import content_digest, sha256_files, sha256_value

TASK_FILES = ".task-files"


def run_benchmarks(
    model: str, settings: BenchmarkSettings, folder: Path, *, seed: int, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run the benchmarks on a checkpoint; those that the folder has of this checkpoint and these settings are kept.

    Args:
        model: Folder or hub id.
        settings: What is run.
        folder: Where each benchmark's items and numbers go, `<task>.json`.
        seed: Seed of the bootstrap.
        should_stop: Asked between benchmarks.

    Returns:
        `model`, `versions`, and `benchmarks`: one record each, its items left out.

    Raises:
        Preempted: If `should_stop` said so; finished benchmarks are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loaded: list[tuple[Harness, LoadedModel]] = []
    records = []
    try:
        for task in settings.tasks:
            fingerprint = _fingerprint(model, settings, task)
            record = _kept(folder / f"{task}.json", fingerprint)
            if record is None:
                if should_stop():
                    raise Preempted(f"stopped before {task}; finished benchmarks are kept")
                if not loaded:
                    loaded.append((Harness(settings, folder / TASK_FILES), LoadedModel(model, settings, folder)))
                harness, lm = loaded[0]
                record = _record(harness.run(lm, task), settings, seed)
                write_atomic(
                    folder / f"{task}.json", json.dumps({"fingerprint": fingerprint, **record}, indent=1) + "\n"
                )
            records.append({key: value for key, value in record.items() if key != "items"})
    finally:
        for _, lm in loaded:
            lm.close()
    return {
        "model": model,
        "versions": harness_versions(settings.backend),
        "benchmarks": records,
    }


def alignment_tax(
    ours: Path, theirs: Path, tasks: Sequence[str], *, num_bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Differences of two checkpoints' benchmarks, ours minus theirs, item by item.

    Args:
        ours, theirs: Folders that `run_benchmarks` filled.
        tasks: The benchmarks.
        num_bootstrap: Resamples of the items.
        seed: Seed of the bootstrap.

    Returns:
        For each benchmark `task`, `ours`, `theirs`, `difference` and `difference_ci`, all in [-1, 1].

    Raises:
        DataError: If the two did not answer the same items.
    """
    rows = []
    for task in tasks:
        mine, other = _read(ours / f"{task}.json"), _read(theirs / f"{task}.json")
        gap = paired_difference(_items(mine), _items(other), num_bootstrap=num_bootstrap, seed=seed)
        rows.append(
            {
                "task": task,
                "ours": mine["value"],
                "theirs": other["value"],
                "difference": gap.value,
                "difference_ci": [gap.low, gap.high],
                "n": mine["n"],
            }
        )
    return rows


def _record(found: HarnessResult, settings: BenchmarkSettings, seed: int) -> dict[str, Any]:
    interval = value_with_interval(found.items, num_bootstrap=settings.num_bootstrap, seed=seed)
    return {
        "task": found.task,
        "what": BENCHMARKS[found.task].what if found.task in BENCHMARKS else found.metric,
        "metric": found.metric,
        "filter": found.filter,
        "value": found.value,
        "value_ci": [interval.low, interval.high],
        "n": len(found.items),
        "num_units": sum(item.units for item in found.items),
        "num_fewshot": found.num_fewshot,
        "apply_chat_template": settings.apply_chat_template,
        "task_version": found.version,
        "num_truncated": found.num_truncated,
        "others": dict(found.others),
        "items": [asdict(item) for item in found.items],
    }


def _fingerprint(model: str, settings: BenchmarkSettings, task: str) -> str:
    decisive = {key: value for key, value in asdict(settings).items() if key not in ("tasks", "data", "num_fewshot")}
    decisive["num_fewshot"] = settings.num_fewshot.get(task)
    data = sha256_files(Path(settings.data) / task) if settings.data else {}
    return sha256_value({"model": content_digest(model), "settings": decisive, "data": data})


def _kept(path: Path, fingerprint: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    document = _read(path)
    return document if document.pop("fingerprint") == fingerprint else None


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _items(document: Mapping[str, Any]) -> list[Item]:
    return [Item(**item) for item in document["items"]]
