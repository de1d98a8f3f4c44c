"""A side of a comparison on one's own inputs: responses from a file, or of a model, shard by shard.

Left out: judging (`single_evaluation.py`). Floor 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairplay.data.reading import read_responses
from fairplay.data.rows import READERS
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.judging import Judged
from fairplay.generation.response_work import ResponseWork
from fairplay.generation.settings import GenerationSettings
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.response_lines import group_of_line, read_lines
from fairplay.records import Dropped, Prompt, ResponseGroup
from fairplay.storage.digests import content_digest, sha256_file
from fairplay.storage.shards import Executor, part_path, read_dropped, read_parts, run_sharded
from fairplay.storage.tables import write_records

COLUMN_MARK = "::"
SHARD_SIZE = 64  # prompts that are committed together


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        groups: Its responses by prompt.
        unreadable: Rows of its file that were left out.
        unanswered: Prompts that a model was asked and left out.
    """

    groups: tuple[ResponseGroup, ...]
    unreadable: tuple[Dropped, ...] = ()
    unanswered: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Responding:
    """How sides that are models respond.

    Attributes:
        generation: How they sample.
        loading: How they are loaded.
        seed: Every sample's seed is a hash that begins with it.
        should_stop: Asked at every commit.
        executor: Where they do.
    """

    generation: GenerationSettings
    loading: ModelSettings
    seed: int
    should_stop: Callable[[], bool]
    executor: Executor


def is_recorded(source: str) -> bool:
    """Whether a side is a file of responses (`FILE` or `FILE::COLUMN`) rather than a model.

    Raises:
        DataError: If it is written like a file, and there is none.
    """
    name, mark, _ = source.partition(COLUMN_MARK)
    path = Path(name).expanduser()
    if path.is_file():
        return True
    if mark or (name.endswith(tuple(READERS)) and not path.is_dir()):
        raise DataError(f"{name}: no such file", hint="a side is a model (folder or hub id), or FILE[::COLUMN]")
    return False


def side_digest(source: str) -> str:
    """What identifies a side: the bytes of its file with the column, or of its model's folder; else the hub id."""
    if not is_recorded(source):
        return content_digest(source)
    name, mark, column = source.partition(COLUMN_MARK)
    return f"{sha256_file(Path(name).expanduser())}{mark}{column}"


def recorded_responses(source: str) -> Side:
    """Responses from a file: JSON lines of `fairplay generate`, or a table with one response a row.

    Args:
        source: The file; `::COLUMN` names the column with the responses (by default `output`, as in AlpacaEval files).
    """
    path, _, column = source.partition(COLUMN_MARK)
    if not column and path.endswith(".jsonl"):
        lines = read_lines(Path(path).expanduser())
        if all("responses" in line.columns for line in lines):
            return Side(tuple(group_of_line(line) for line in lines))
    loaded = read_responses(path, column=column or "output")
    return Side(loaded.items, unreadable=loaded.dropped)


def fill_side(source: str, folder: Path, role: str, prompts: Sequence[Prompt], responding: Responding) -> Side:
    """The responses of one side, in the parts of a folder; what an interrupted call left there is kept.

    Args:
        source: A model, or a file of responses.
        folder: Where they go.
        role: "policy" or "opponent"; part of every sample's seed.
        prompts: What a model is asked.
        responding: How it responds.

    Raises:
        SettingsError: If a model has no prompts to respond to.
        Preempted: If asked to stop.
    """
    if is_recorded(source):
        side = recorded_responses(source)
        folder.mkdir(exist_ok=True)
        write_records(part_path(folder, 0), side.groups, ResponseGroup)
        return side
    if not prompts:
        raise SettingsError(f"{source}: a model needs prompts to respond to", hint="name them with --prompts")
    run_sharded(
        folder,
        prompts,
        ResponseWork(source, responding.generation, responding.loading, (responding.seed, "evaluate", role)),
        ResponseGroup,
        executor=responding.executor,
        shard_size=SHARD_SIZE,
        description=f"responses of the {role}",
        should_stop=responding.should_stop,
    )
    return Side(tuple(read_parts(folder, ResponseGroup)), unanswered=tuple(read_dropped(folder)))


def not_judged(judged: Judged, policy: Side, opponent: Side, *, num_samples: int) -> list[Dropped]:
    """Every judgement that was asked for and is missing, with the reason for which a model left its prompt out.

    The judging sees only what responses there are, so it does not count a prompt that neither side responded to.
    """
    reasons = {item.id: item.reason for side in (policy, opponent) for item in side.unanswered}
    present = {group.prompt.id for side in (policy, opponent) for group in side.groups}
    nowhere = [Dropped(prompt_id, reason) for prompt_id, reason in reasons.items() if prompt_id not in present]
    named = [Dropped(item.id, reasons.get(item.id, item.reason)) for item in judged.dropped]
    return [*named, *nowhere * num_samples]
