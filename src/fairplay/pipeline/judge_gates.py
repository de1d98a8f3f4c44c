"""The honesty gates of `fairplay judge`: canaries in a protocol's own games, marks in responses, what training saw.

Left out: who the canaries are (`evaluation/canaries.py`), the judging itself (`judge_files.py`). Floor 7; no torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.canaries import Canary, canary_groups, canary_result
from fairplay.evaluation.injection import scan_responses
from fairplay.evaluation.overlap import prompt_overlap
from fairplay.evaluation.protocols.games import Matched, Pair, Played, match_pairs, play
from fairplay.evaluation.protocols.scores import as_judged
from fairplay.evaluation.settings import SECOND_SAMPLE
from fairplay.oracles.pair_judge import PairJudge
from fairplay.pipeline.canary_games import ONE_RESPONSE, alarms_of, first_responses, second_responses
from fairplay.pipeline.context import EXAMPLES
from fairplay.pipeline.stages import EXAMPLES_NAME
from fairplay.records import Prompt, Response, ResponseGroup, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.servers.settings import ServerSettings
from fairplay.storage.run_directory import SETTINGS_NAME
from fairplay.storage.settings_file import read_yaml
from fairplay.storage.tables import read_records

POLICY, OPPONENT = "policy", "opponent"


@dataclass(frozen=True)
class Canaries:
    """What the judge is tried on.

    Attributes:
        matched: Canary -> its response and the opponent's to each prompt that was drawn.
        left_out: Canary -> why it is not there.
    """

    matched: Mapping[str, Matched]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class TriedJudge:
    """How the judge fared.

    Attributes:
        played: Canary -> its games.
        canaries: One a canary.
        alarms: What they say against the judge.
    """

    played: Mapping[str, Played]
    canaries: tuple[Canary, ...]
    alarms: tuple[str, ...]


def match_canaries(
    names: Sequence[str], opponent: Sequence[ResponseGroup], matched: Matched, *, number: int, seed: int
) -> Canaries:
    """The canaries against the opponent, on prompts that are judged anyway.

    Args:
        names: In `evaluation.settings.CANARIES`.
        opponent: All responses of the opponent.
        matched: What is judged.
        number: On how many prompts, drawn by the seed; 0 takes all.
        seed: Of the draw.
    """
    judged = {pair.prompt.messages for pair in matched.pairs}
    known = [group for group in opponent if group.prompt.messages in judged]
    drawn = sorted(known, key=lambda group: (stable_seed(seed, "canaries", group.prompt.id), group.prompt.id))
    first = first_responses(drawn, number)
    second = second_responses(opponent, first)
    left_out = {} if second or SECOND_SAMPLE not in names else {SECOND_SAMPLE: ONE_RESPONSE}
    found = {
        name: match_pairs(second if name == SECOND_SAMPLE else canary_groups(name, first), first)
        for name in names
        if name not in left_out
    }
    return Canaries(found, left_out)


def try_judge(
    canaries: Canaries,
    judge: PairJudge,
    *,
    orders: str,
    posts: bool,
    seed: int,
    num_bootstrap: int,
    should_stop: Callable[[], bool],
) -> TriedJudge:
    """Play the canaries as everything else is played.

    Args:
        canaries: What is played.
        judge, orders, posts, seed, should_stop: See `games.play`.
        num_bootstrap: Resamples of the prompts behind each interval.
    """
    played = {
        name: play(matched, judge, orders=orders, seed=seed, posts=posts, should_stop=should_stop)
        for name, matched in canaries.matched.items()
    }
    found = canary_results(played, seed=seed, num_bootstrap=num_bootstrap)
    return TriedJudge(played, found, alarms_of(found))


def canary_results(played: Mapping[str, Played], *, seed: int, num_bootstrap: int) -> tuple[Canary, ...]:
    """What the canaries' games say about the judge; the seed is that of the task."""
    drawn = stable_seed(seed, "bootstrap")
    return tuple(
        canary_result(name, as_judged(games), seed=drawn, num_bootstrap=num_bootstrap) for name, games in played.items()
    )


def marker_documents(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Marks that are meant for a judge in the responses of both sides that were to be judged."""

    def groups(side: str) -> list[ResponseGroup]:
        return [ResponseGroup(pair.prompt, (Response(getattr(pair, side)),)) for pair in pairs]

    return [{"policy": side, **asdict(scan_responses(groups(side)))} for side in (POLICY, OPPONENT)]


def training_gate(run: str, judge: ServerSettings, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Whether the judge made the preferences of a run, and which of the judged prompts it was trained on.

    Args:
        run: The folder of the run that trained the policy; empty where none is named.
        judge: The server that judges.
        prompts: What is judged.

    Returns:
        `oracle_is_judge` and `overlap`; nothing where no run is named.

    Raises:
        DataError: If the folder is no run with training examples.
    """
    if not run:
        return {}
    folder = Path(run).expanduser()
    examples = sorted(folder.glob(f"iteration-*/{EXAMPLES}/{EXAMPLES_NAME}"))
    if not examples or not (folder / SETTINGS_NAME).is_file():
        what = "no run with training examples in it" if folder.is_dir() else "no such folder"
        raise DataError(f"{run}: {what}", hint="name the folder of a run that trained")
    oracle = read_yaml(folder / SETTINGS_NAME).get("oracle", {})
    overlap = prompt_overlap(_trained_on(examples), list({prompt.messages: prompt for prompt in prompts}.values()))
    return {"oracle_is_judge": any(_is_same(judge, server) for server in _servers(oracle)), "overlap": asdict(overlap)}


def _trained_on(files: Sequence[Path]) -> Iterator[Prompt]:
    for file in files:
        yield from (example.prompt for example in read_records(file, TrainingExample))


def _servers(oracle: Any) -> Iterator[Mapping[str, Any]]:
    """Every chat server in the settings of an oracle, also of one that is made of others."""
    if isinstance(oracle, Mapping):
        server = oracle.get("server")
        if isinstance(server, Mapping):
            yield server
        for value in oracle.values():
            yield from _servers(value)
    elif isinstance(oracle, list | tuple):
        for value in oracle:
            yield from _servers(value)


def _is_same(judge: ServerSettings, oracle: Mapping[str, Any]) -> bool:
    """By identity where both have one, else by the name of the model: another template is no other taste."""
    identity = oracle.get("identity", "")
    return judge.identity == identity if judge.identity and identity else judge.model == oracle.get("model")
