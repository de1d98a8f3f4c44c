"""Best of n: n responses to every prompt, of which the one that an oracle prefers to the others is kept.

As the SPPO paper reports for PairRM, with n = 16. Policy and oracle are in memory together; where they do not fit,
`generate` and `rank` one after the other say the same. Left out: those two (`single_stages.py`). Floor 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairplay.data.reading import read_prompts
from fairplay.errors import SettingsError
from fairplay.generation.response_work import Responder, ResponseWork
from fairplay.generation.settings import GenerationSettings, decisive_settings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.judge_settings import REPLIES_NAME
from fairplay.oracles.preference_work import NAME, TEMPERATURE, PreferenceWork, Ranker, facts_of
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import build_oracle
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import line_of_group, write_lines
from fairplay.pipeline.single_stages import SHARD_SIZE, generate_seed_parts, identity_of_oracle, shards_beside
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import Dropped, PreferenceGroup, Prompt
from fairplay.servers.ledger import one_command
from fairplay.storage.digests import content_digest
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import HERE, Executor, Facts, read_dropped, read_parts, run_sharded


@one_command()
def best_of_file(
    model: str,
    source: str,
    output: Path,
    *,
    oracle: OracleSettings,
    generation: GenerationSettings,
    loading: ModelSettings,
    seed: int,
    should_stop: Callable[[], bool],
    executor: Executor = HERE,
) -> dict[str, Any]:
    """The best of `generation.num_responses` responses of a model to every prompt of a source, as JSON lines.

    A line is one of `fairplay generate` with one response, and `best_of`: `n`, `index` (which of them it was),
    `win_rate` (its mean probability to beat the others, by the oracle), and `oracle`. The n are those of
    `fairplay generate` with the same seed; of equally good ones the first is kept. For an oracle that scores each
    response, the highest win rate is the highest score.

    Returns:
        Counts as `generate_file`, the oracle, and the mean win rate of what was kept.

    Raises:
        SettingsError: If n is less than 2.
        Preempted: If `should_stop` said so; the same call again goes on from there.
    """
    if generation.num_responses < 2:
        raise SettingsError(f"--best-of {generation.num_responses}: there is nothing to choose from", hint="2 or more")
    loaded = read_prompts(source)
    decisive = {
        "prompts": loaded.sha256,
        "model": content_digest(model),
        "generation": decisive_settings(generation),
        "loading": settings_document(loading),
        "seed": seed,
        "oracle": identity_of_oracle(oracle),
    }
    with shards_beside(output, decisive) as folder:
        responses = ResponseWork(model, generation, loading, generate_seed_parts(seed))
        oracle = oracle.with_cache(str(folder / REPLIES_NAME))
        facts = run_sharded(
            folder,
            loaded.items,
            BestOfWork(responses, PreferenceWork(oracle)),
            PreferenceGroup,
            executor=executor,
            shard_size=SHARD_SIZE,
            description=f"{output.name}: best of {generation.num_responses}",
            should_stop=should_stop,
        )
        compared, dropped = read_parts(folder, PreferenceGroup), read_dropped(folder)
        facts = facts or facts_of(build_oracle(oracle))
        name, temperature = str(facts[NAME]), float(facts[TEMPERATURE])
        lines = [best_line(preferences, name=name, temperature=temperature) for preferences in compared]
        write_lines(output, lines)
    return {
        "format": loaded.format,
        "num_in": len(loaded.items) + len(loaded.dropped),
        "num_out": len(lines),
        "dropped": count_reasons([*loaded.dropped, *dropped]),
        "oracle": name,
        "best_of": generation.num_responses,
        "mean_win_rate": float(np.mean([line["best_of"]["win_rate"] for line in lines])) if lines else None,
        "tokens": sum(len(response.token_ids) for item in compared for response in item.group.responses),
        "output": str(output),
    }


@dataclass(frozen=True)
class BestOfWork:
    """Responses to every prompt, compared at once."""

    responses: ResponseWork
    preferences: PreferenceWork

    @property
    def asks_server(self) -> bool:
        return self.responses.asks_server or self.preferences.asks_server

    @property
    def num_gpus(self) -> int:
        return max(self.responses.num_gpus, self.preferences.num_gpus)

    def start(self) -> "BestOfWorker":
        """Load oracle and policy."""
        return BestOfWorker(self.preferences.start(), self.responses.start())


class BestOfWorker:
    """A worker with a policy and an oracle."""

    def __init__(self, ranker: Ranker, responder: Responder) -> None:
        self.ranker, self.responder = ranker, responder

    @property
    def facts(self) -> Facts:
        return self.ranker.facts

    def do(self, items: Sequence[Prompt]) -> tuple[Sequence[PreferenceGroup], Sequence[Dropped]]:
        """Respond to the prompts of a shard, and compare the responses to each."""
        groups, dropped = self.responder.do(items)
        judged, without_verdict = self.ranker.do(groups)
        return judged, [*dropped, *without_verdict]

    def close(self) -> None:
        self.responder.close()


def best_line(preferences: PreferenceGroup, *, name: str, temperature: float) -> dict[str, Any]:
    """The line of the response with the highest win rate among the others of its group; the first of equal ones."""
    rates = win_rates(win_matrix(group_logits(preferences), temperature=temperature), opponents="leave-one-out")
    index = int(np.argmax(rates))
    group = preferences.group
    kept = replace(group, responses=(group.responses[index],))
    said = {"n": len(group.responses), "index": index, "win_rate": float(rates[index]), "oracle": name}
    return {**line_of_group(kept), "best_of": said}
