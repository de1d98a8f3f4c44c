"""lm-evaluation-harness at work; shots that it would ignore, and answers that are no numbers, are refused.

Left out: which tasks (`settings.py`), the data on this machine (`local_data.py`), intervals (`items.py`). Floor 5.
lm_eval is an extra.
"""

import importlib.metadata
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, ResourceError, SettingsError
from fairplay.evaluation.benchmarks.items import Item
from fairplay.evaluation.benchmarks.loaded_model import LoadedModel, vllm_version
from fairplay.evaluation.benchmarks.local_data import write_local_task
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.evaluation.benchmarks.table import BENCHMARKS

_SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What the harness found on one benchmark.

    Attributes:
        task: The benchmark.
        metric, filter: Which of its numbers is `value`.
        value: That number, as the harness gives it.
        others: `metric,filter` -> its other numbers.
        items: The value's parts.
        num_fewshot: Shots that were in the prompts.
        version: The harness's version of the task.
        num_truncated: Items whose prompt lost its beginning because the model could not read all of it.
    """

    task: str
    metric: str
    filter: str
    value: float
    others: Mapping[str, float]
    items: tuple[Item, ...]
    num_fewshot: int
    version: str
    num_truncated: int


class Harness:
    """The tasks of some settings, ready to run on one model after another.

    Args:
        settings: What is run.
        work: A folder for task files, where the data are local.

    Raises:
        ResourceError: If lm_eval, or what a task needs beside it, is not installed.
        SettingsError: If a task is unknown, or the harness would ignore the shots that are asked for.
        DataError: If local data are missing.
    """

    def __init__(self, settings: BenchmarkSettings, work: Path) -> None:
        try:
            import lm_eval
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise ResourceError("benchmarks need lm_eval", hint="pip install 'fairplay[eval]'") from error
        self.settings = settings
        stock = Path(lm_eval.__file__).parent / "tasks"
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        known = all(name in BENCHMARKS for name in settings.tasks)  # the index of all tasks takes seconds
        folders = [stock / name.removesuffix("_mc1") for name in settings.tasks] if known else [stock]
        index = TaskManager(include_path=folders, include_defaults=False)
        for name in settings.tasks:
            if name not in index.task_index:
                raise SettingsError(f"benchmarks.tasks: the harness has no task `{name}`", hint="lm_eval ls tasks")
            self._check(name, index)
        if settings.data:
            for name in settings.tasks:
                for leaf in _leaves(name, index):
                    write_local_task(*_source(leaf, index), _data_folder(Path(settings.data), name), work)
            index = TaskManager(include_path=[*folders, work], include_defaults=False)
        self.index = index

    def _check(self, name: str, index: Any) -> None:
        if name == "ifeval":
            _require_punkt()
        asked = self.settings.num_fewshot.get(name)
        for leaf in _leaves(name, index):
            config = _source(leaf, index)[1]
            if asked and config.get("num_fewshot") == 0:
                raise SettingsError(
                    f"benchmarks.num_fewshot: {asked} shots of `{name}`, whose task file pins 0: the harness would "
                    "ignore them and report a 0-shot number",
                    hint="leave them out; numbers published as few-shot by this task are 0-shot too",
                )
            if config.get("class") or "output_type" not in config:
                raise SettingsError(f"benchmarks.tasks: `{name}` is code of its own, not a task file")

    def run(self, model: LoadedModel, task: str) -> HarnessResult:
        """One benchmark on one model.

        Raises:
            DataError: If the model's log-probs are not finite, or its context is too short for the answers.
        """
        from lm_eval.evaluator import simple_evaluate

        with _told_as_data_errors(task), model.guarded():
            found = simple_evaluate(
                model=model.lm,
                tasks=[task],
                num_fewshot=self.settings.num_fewshot.get(task),
                limit=self.settings.limit or None,
                apply_chat_template=self.settings.apply_chat_template,
                task_manager=self.index,
                bootstrap_iters=0,
                log_samples=True,
                **_SEEDS,
            )
        model.refuse_bad_logits(task)
        return self._result(task, found, model.lm)

    def _result(self, task: str, found: Mapping[str, Any], lm: Any) -> HarnessResult:
        leaves = sorted(found["samples"])
        refuse_bad_answers(task, found["samples"])
        metric, filtered = self._metric(found["configs"][leaves[0]], task)
        numbers = {key: float(value) for key, value in found["results"][task].items() if _is_number(key, value)}
        value = numbers.pop(f"{metric},{filtered}")
        items = tuple(
            _item(leaf, sample, metric)
            for leaf in leaves
            for sample in found["samples"][leaf]
            if sample["filter"] == filtered
        )
        ours = sum(item.right for item in items) / sum(item.units for item in items)
        if abs(ours - value) > 1e-9:
            raise DataError(
                f"{task}: the harness says {value!r}, its items say {ours!r}",
                hint="this metric is no mean over items; choose another task",
            )
        shots = {found["n-shot"][leaf] for leaf in leaves}
        asked = self.settings.num_fewshot.get(task)
        if len(shots) > 1 or (asked is not None and shots != {asked}):
            raise SettingsError(f"{task}: {asked} shots asked, {sorted(shots)} in the prompts")
        truncated = sum(_is_truncated(lm, sample) for leaf in leaves for sample in found["samples"][leaf])
        filters = len({sample["filter"] for sample in found["samples"][leaves[0]]})
        return HarnessResult(
            task=task,
            metric=metric,
            filter=filtered,
            value=value,
            others=numbers,
            items=items,
            num_fewshot=shots.pop(),
            version=str(found["versions"][leaves[0]]),
            num_truncated=truncated // filters,
        )

    def _metric(self, config: Mapping[str, Any], task: str) -> tuple[str, str]:
        if task in BENCHMARKS:
            return BENCHMARKS[task].metric, BENCHMARKS[task].filter
        filters = config.get("filter_list") or [{"name": "none"}]
        return config["metric_list"][0]["metric"], filters[0]["name"]


def harness_versions(backend: str) -> dict[str, str]:
    """What ran, for the record; `backend` is a name in `settings.BACKENDS`."""
    told = {name: importlib.metadata.version(name) for name in ("lm_eval", "transformers", "torch", "datasets")}
    return told | ({"vllm": vllm_version()} if backend == "vllm" else {})


def refuse_bad_answers(task: str, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse log-probs that are no numbers: the harness would take the first choice, which mc1 calls right.

    Raises:
        DataError: With the first item that has one.
    """
    for leaf, rows in samples.items():
        for sample in rows:
            for response in sample["resps"]:
                first = response[0]
                if isinstance(first, tuple | list) and not isfinite(float(first[0])):
                    raise DataError(
                        f"{task}: the log-prob of an answer to item {sample['doc_id']} of {leaf} is {first[0]}",
                        hint="the model's weights are damaged, or its logits overflow; no number is reported",
                    )


def _item(leaf: str, sample: Mapping[str, Any], metric: str) -> Item:
    score = sample[metric]
    parts = [float(part) for part in score] if isinstance(score, list | tuple) else [float(score)]
    return Item(f"{leaf}/{sample['doc_id']}/{sample['doc_hash'][:16]}", sum(parts), len(parts))


def _is_number(key: str, value: Any) -> bool:
    return "," in key and "stderr" not in key and not isinstance(value, str)


def _is_truncated(lm: Any, sample: Mapping[str, Any]) -> bool:
    for arguments in sample["arguments"]:
        context, answer = arguments[0], arguments[1]
        if isinstance(answer, str):
            room, length = lm.max_length + 1, len(lm.tok_encode(context + answer))
        else:
            room = lm.max_length - answer.get("max_gen_toks", lm.max_gen_toks)
            length = len(lm.tok_encode(context))
        if length > room:
            return True
    return False


def _leaves(name: str, index: Any) -> list[str]:
    """The single tasks of a task or of a group."""
    entry = index.task_index[name]
    if entry.kind.name == "TAG":
        return sorted(leaf for member in entry.tags for leaf in _leaves(member, index))
    if entry.kind.name != "GROUP":
        return [name]
    members = [member if isinstance(member, str) else member["task"] for member in entry.cfg["task"]]
    return sorted(leaf for member in members for leaf in _leaves(member, index))


def _source(leaf: str, index: Any) -> tuple[Path, Mapping[str, Any]]:
    entry = index.task_index[leaf]
    return entry.yaml_path, entry.cfg


def _data_folder(data: Path, name: str) -> Path:
    folder = data / name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint=f"put the data of `{name}` there, or leave out `data`")
    return folder


def _require_punkt() -> None:
    """IFEval counts sentences and words with NLTK's data, which the harness would fetch by itself."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError as error:
        raise ResourceError(
            "ifeval: NLTK's `punkt_tab` is not on this machine",
            hint="python -m nltk.downloader punkt_tab, or name its folder in NLTK_DATA",
        ) from error


@contextmanager
def _told_as_data_errors(task: str) -> Iterator[None]:
    """What the harness asserts about the data and the model, with the benchmark's name."""
    try:
        yield
    except (AssertionError, ValueError, KeyError) as error:
        first = next(islice(str(error).splitlines(), 1), type(error).__name__)
        raise DataError(f"{task}: lm_eval refuses: {first}") from error
