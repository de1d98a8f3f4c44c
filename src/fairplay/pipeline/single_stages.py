"""Single stages on their own inputs and outputs, for people who bring one part of the pipeline themselves.

Left out: the stages of a run (`stages.py`), offline training (`offline.py`). Floor 7.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_prompts
from fairplay.data.writing import write_examples
from fairplay.errors import DataError, SettingsError
from fairplay.generation.response_work import ResponseWork
from fairplay.generation.settings import GenerationSettings, decisive_settings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.judge_settings import REPLIES_NAME
from fairplay.oracles.preference_work import NAME, TEMPERATURE, PreferenceWork, facts_of
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import build_oracle, oracle_identity
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import (
    Line,
    group_of_line,
    line_of_group,
    preferences_of_line,
    read_lines,
    temperature_of_line,
    write_lines,
)
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.selection import select_examples
from fairplay.preferences.settings import SelectionSettings
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import PreferenceGroup, ResponseGroup
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import content_digest
from fairplay.storage.locking import LOCK_NAME, lock
from fairplay.storage.settings_file import settings_difference, settings_document
from fairplay.storage.shards import HERE, Executor, any_part, read_dropped, read_parts, run_sharded
from fairplay.wording import reasons

logger = logging.getLogger(__name__)
SHARD_SIZE = 64  # prompts that are committed together; a kill loses at most these
_DECISIVE_NAME = "decisive.json"


def generate_file(
    model: str,
    source: str,
    output: Path,
    *,
    generation: GenerationSettings,
    loading: ModelSettings,
    seed: int,
    should_stop: Callable[[], bool],
    executor: Executor = HERE,
) -> dict[str, Any]:
    """K responses of a model to every prompt of a source, as JSON lines.

    Returns:
        Counts: prompts read, groups written, dropped by reason, tokens.

    Raises:
        Preempted: If `should_stop` said so; the same call again goes on from there.
    """
    loaded = read_prompts(source)
    decisive = {
        "prompts": loaded.sha256,
        "model": content_digest(model),
        "generation": decisive_settings(generation),
        "loading": settings_document(loading),
        "seed": seed,
    }
    with shards_beside(output, decisive) as folder:
        run_sharded(
            folder,
            loaded.items,
            ResponseWork(model, generation, loading, generate_seed_parts(seed)),
            ResponseGroup,
            executor=executor,
            shard_size=SHARD_SIZE,
            description=f"{output.name}: responses",
            should_stop=should_stop,
        )
        groups, dropped = read_parts(folder, ResponseGroup), read_dropped(folder)
        write_lines(output, map(line_of_group, groups))
    responses = [response for group in groups for response in group.responses]
    return {
        "format": loaded.format,
        "num_in": len(loaded.items) + len(loaded.dropped),
        "num_out": len(groups),
        "dropped": count_reasons([*loaded.dropped, *dropped]),
        "num_cut_at_length": sum(response.finish_reason == "length" for response in responses),
        "tokens": sum(len(response.token_ids) for response in responses),
        "output": str(output),
    }


def generate_seed_parts(seed: int) -> tuple[str | int, ...]:
    """What decides the seeds of samples in `fairplay generate` besides the prompt, whatever becomes of them."""
    return (seed, "generate")


def rank_file(
    source: Path,
    output: Path,
    *,
    oracle: OracleSettings,
    rule: str,
    opponents: str,
    should_stop: Callable[[], bool],
    executor: Executor = HERE,
) -> dict[str, Any]:
    """Let an oracle compare every pair of responses of every line.

    Every line gets `pair_logits_ab` (entry [i][j]: i shown first, j second; null where that order was not read),
    `win_probs` and `win_rates`, `truncated` (by response), `prompt_truncated`, and the oracle's name and temperature.
    Where an oracle compares with some responses only, `anchors` names these, and `win_probs` is null for a pair that
    was not compared; an ensemble's `disagreement` is the standard deviation of its members' probabilities.

    Args:
        source: The lines.
        output: The file for the same lines with verdicts.
        oracle: Who compares.
        rule: How pair logits become win probabilities, a name in `preferences.settings.RULES`.
        opponents: Against whom a win rate is taken, a name in `preferences.settings.OPPONENTS`.
        should_stop: Asked at every commit.
        executor: Where it is done.

    Returns:
        Counts, and the audit of the preferences.

    Raises:
        DataError: If a line is not what it should be; its number is told.
        Preempted: If `should_stop` said so; the same call again goes on from there.
    """
    lines = read_lines(source)
    groups = [group_of_line(line) for line in lines]
    for line, group in zip(lines, groups, strict=True):
        if len(group.responses) < 2:
            raise DataError(f"{line.where}: 1 response, nothing to compare it with", hint="generate 2 or more a prompt")
    make_parent(output)
    with shards_beside(output, {"lines": content_digest(str(source)), "oracle": identity_of_oracle(oracle)}) as folder:
        oracle = oracle.with_cache(str(folder / REPLIES_NAME))
        facts = run_sharded(
            folder,
            groups,
            PreferenceWork(oracle),
            PreferenceGroup,
            executor=executor,
            shard_size=SHARD_SIZE,
            description=f"{output.name}: preferences",
            should_stop=should_stop,
        )
        compared, dropped = read_parts(folder, PreferenceGroup), read_dropped(folder)
        facts = facts or facts_of(build_oracle(oracle))
        temperature = float(facts[TEMPERATURE])
        said = {"oracle": facts[NAME], "temperature": temperature}
        verdicts = (_verdict(group, temperature, rule, opponents) for group in compared)
        kept = _lines_of(compared, lines, groups)
        write_lines(output, ({**line.columns, **said, **own} for line, own in zip(kept, verdicts, strict=True)))
    audit = audit_preferences(compared, temperature=temperature)
    counts = {"num_in": len(lines), "num_out": len(compared), "dropped": count_reasons(dropped)}
    return {**counts, "audit": audit, "output": str(output)}


def _lines_of(
    compared: Sequence[PreferenceGroup], lines: Sequence[Line], groups: Sequence[ResponseGroup]
) -> list[Line]:
    """The lines of the groups that were judged; both are in the same order."""
    kept: list[Line] = []
    for line, group in zip(lines, groups, strict=True):
        if len(kept) < len(compared) and compared[len(kept)].group == group:
            kept.append(line)
    return kept


def _verdict(preferences: PreferenceGroup, temperature: float, rule: str, opponents: str) -> dict[str, Any]:
    probs = win_matrix(group_logits(preferences), rule=rule, temperature=temperature)
    rates = win_rates(probs, opponents=opponents)
    optional = {
        "anchors": list(preferences.anchors),
        "disagreement": [list(row) for row in preferences.disagreement],
    }
    return {
        "pair_logits_ab": [list(row) for row in preferences.pair_logits],
        "win_probs": [[None if isnan(prob) else prob for prob in row] for row in probs.tolist()],
        "win_rates": rates.tolist(),
        "truncated": list(preferences.truncated),
        "prompt_truncated": preferences.prompt_truncated,
        **{name: value for name, value in optional.items() if value},
    }


def select_file(source: Path, output: Path, *, selection: SelectionSettings, seed: int) -> dict[str, Any]:
    """Training examples from ranked lines, in a format that `fairplay train` and others read.

    Returns:
        Counts: lines read, examples written, dropped by reason.

    Raises:
        DataError: If a line is not what it should be (its number is told), or no example is left; nothing is written.
    """
    lines = read_lines(source)
    by_temperature: dict[float, list[PreferenceGroup]] = {}
    for line in lines:
        by_temperature.setdefault(temperature_of_line(line), []).append(preferences_of_line(line))
    selected = [
        select_examples(groups, selection, temperature=temperature, seed=seed)
        for temperature, groups in sorted(by_temperature.items())
    ]
    examples = [example for part in selected for example in part.examples]
    dropped = count_reasons([item for part in selected for item in part.dropped])
    if not examples:
        raise DataError(
            f"{source}: no preference signal, all {len(lines)} lines were left out ({reasons(dropped)})",
            hint="is the oracle the right one? more varied responses, or a lower selection.min_margin, may help",
        )
    make_parent(output)
    write_examples(examples, output)
    return {"num_in": len(lines), "num_out": len(examples), "dropped": dropped, "output": str(output)}


def make_parent(output: Path) -> None:
    """Make the folder of an output, before any work is done for it.

    Raises:
        SettingsError: If the output is a folder itself.
        ResourceError: If its folder can't be made.
    """
    if output.is_dir():
        raise SettingsError(f"--output {output}: is a folder", hint="name a file in it")
    with disk_errors(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def shards_beside(output: Path, decisive: Mapping[str, Any]) -> Iterator[Path]:
    """A hidden folder for the shards of an output: removed where the work ends well, or is stopped before any is done.

    Shards of an earlier call are found in it if what decides their content is the same; else they are removed, and a
    warning says what has changed. Replies of a server are kept while the work is not done: they know what they answer.
    """
    make_parent(output)
    folder = output.with_name(f".{output.name}.shards")
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    with lock(folder):
        _forget_stale(folder, {"shard_size": SHARD_SIZE, **decisive})
        is_done = False
        try:
            yield folder
            is_done = True
        finally:
            if is_done or not (any_part(folder) or (folder / REPLIES_NAME).exists()):
                shutil.rmtree(folder)


def _forget_stale(folder: Path, decisive: Mapping[str, Any]) -> None:
    marker = folder / _DECISIVE_NAME
    wanted = json.loads(json.dumps(decisive))
    before = json.loads(marker.read_bytes()) if marker.is_file() else {}
    if before == wanted:
        return
    if before:
        changed = "; ".join(settings_difference(before, wanted))
        logger.warning("%s: shards of an earlier call are made anew: %s", folder, changed)
    with disk_errors(folder):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_NAME and not path.name.startswith(REPLIES_NAME):
                path.unlink()
    write_atomic(marker, json.dumps(wanted))


def identity_of_oracle(oracle: OracleSettings) -> dict[str, Any]:
    """What decides an oracle's verdicts: its settings, and its weights, code or records instead of their place."""
    document, sources = oracle_identity(oracle, setting="oracle")
    return document | {name: source.digest() for name, source in sources.items()}
