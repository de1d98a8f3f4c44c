"""Played pairs as annotations in AlpacaEval's schema, with every game and reply beside it, and back.

Left out: files (`pipeline`). Floor 5; pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.protocols.games import Game, Pair, PlayedPair
from fairplay.oracles.judge_template import conversation_text
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.records import Message, Prompt


def annotation_rows(
    played: Sequence[PlayedPair], *, policy: str, opponent: str, annotator: str, dataset: str
) -> list[dict[str, Any]]:
    """One row a pair: the official columns, then `prompt_id`, `sample`, both lengths and `games`.

    `preference` is 1 for the opponent, 2 for the policy, 1.5 for a tie, and null where a verdict is missing.

    Args:
        played: The pairs.
        policy, opponent: Names of the two sides (`generator_2`, `generator_1`).
        annotator: Name of the judge.
        dataset: Where the prompts are from.
    """
    return [
        {
            "instruction": conversation_text(item.pair.prompt.messages),
            "output_1": item.pair.opponent,
            "generator_1": opponent,
            "dataset": dataset,
            "output_2": item.pair.policy,
            "generator_2": policy,
            "annotator": annotator,
            "preference": preference_of(item),
            "prompt_id": item.pair.prompt.id,
            "sample": item.pair.sample,
            "opponent_length": item.pair.opponent_length,
            "policy_length": item.pair.policy_length,
            "games": [_game(game) for game in item.games],
        }
        for item in played
    ]


def preference_of(item: PlayedPair) -> float | None:
    """In AlpacaEval's codes: 1 for the opponent, 2 for the policy; None where a verdict is missing."""
    return None if item.win_prob is None else 1 + item.win_prob


def played_pairs(rows: Iterable[Mapping[str, Any]], where: str) -> list[PlayedPair]:
    """The pairs and games that rows of `annotation_rows` tell; of each prompt its text, as one message.

    Args:
        rows: The rows.
        where: What errors call them.

    Raises:
        DataError: If they are other rows.
    """
    try:
        return [_played(row) for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: no annotations of this release's `fairplay judge` ({type(error).__name__}: {error})",
            hint="run `fairplay judge` on this folder again: what is in its cache is not paid for again",
        ) from error


def _played(row: Mapping[str, Any]) -> PlayedPair:
    prompt = Prompt(row["prompt_id"], (Message("user", row["instruction"]),))
    lengths = (int(row["policy_length"]), int(row["opponent_length"]))
    pair = Pair(prompt, int(row["sample"]), row["output_2"], row["output_1"], *lengths)
    return PlayedPair(pair, tuple(map(_of_game, row["games"])))


def _game(game: Game) -> dict[str, Any]:
    verdict = game.verdict
    shown: dict[str, Any] = {"policy_first": game.policy_first, "win_prob": game.win_prob, "reply": verdict.text}
    if isinstance(verdict, NoVerdict):
        return shown | {"failure": verdict.reason}
    return shown | {"label": verdict.label, "mass": verdict.mass, "by_log_probs": verdict.by_log_probs}


def _of_game(told: Mapping[str, Any]) -> Game:
    if "failure" in told:
        return Game(told["policy_first"], NoVerdict(told["failure"], told["reply"]))
    win_prob = float(told["win_prob"])
    first_wins = win_prob if told["policy_first"] else 1 - win_prob
    return Game(
        told["policy_first"], Verdict(first_wins, told["mass"], told["label"], told["by_log_probs"], told["reply"])
    )
