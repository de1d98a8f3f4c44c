"""Local folders in place of the hub's data: the harness's task files with nothing changed but the data's place.

    DATA/piqa/{train,validation}.jsonl       DATA/gsm8k/main/{train,test}-00000-of-00001.parquet
    DATA/mmlu/anatomy/{dev,test}.jsonl       DATA/ifeval/ifeval_input_data.jsonl

A split is the files whose names begin with it, in the task's folder, in its `dataset_name` beneath, or in `data`; a
lone file is the split that is scored. Left out: fetching data. Floor 5; pure but for the files it lists.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fairplay.errors import DataError

BUILDERS: Mapping[str, str] = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def write_local_task(stock: Path, config: Mapping[str, Any], data: Path, target: Path) -> None:
    """Write a task file that includes the harness's own and takes its data from a folder.

    Args:
        stock: The harness's file of the task.
        config: What it says, its includes resolved.
        data: The task's folder of data.
        target: Folder of the new file.

    Raises:
        DataError: If a split that the task reads has no file there.
    """
    places = [data / config["dataset_name"]] if config.get("dataset_name") else []
    places += [data, data / "data"]
    place = next((place for place in places if _tables(place)), None)
    if place is None:
        raise DataError(f"{data}: no data of `{config['task']}`", hint=f"looked in {', '.join(map(str, places))}")
    splits = dict.fromkeys(str(config[key]) for key in _SPLITS if config.get(key))
    scored = config.get("test_split") or config.get("validation_split")
    found = _tables(place)
    if len(found) == 1 and len(splits) == 1:
        files = {str(scored): found}
    else:
        files = {split: [path for path in found if path.name.startswith(split)] for split in splits}
    if missing := [split for split, paths in files.items() if not paths]:
        raise DataError(
            f"{place}: `{config['task']}` reads the split `{missing[0]}`, and no file's name begins with it",
            hint=f"there are {', '.join(path.name for path in found)}",
        )
    document = {
        "include": str(stock),
        "task": config["task"],
        "dataset_path": _builder(place, [path for paths in files.values() for path in paths]),
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {split: [str(path.resolve()) for path in paths] for split, paths in files.items()}
        },
        **({"tag": config["tag"]} if "tag" in config else {}),
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{config['task']}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in BUILDERS and path.is_file())


def _builder(place: Path, paths: Iterable[Path]) -> str:
    builders = {BUILDERS[path.suffix] for path in paths}
    if len(builders) > 1:
        raise DataError(f"{place}: both parquet and json files", hint="keep one kind")
    return builders.pop()
