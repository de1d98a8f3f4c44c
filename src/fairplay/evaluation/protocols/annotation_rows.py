"""Played pairs as annotations in AlpacaEval's schema, with every game and reply beside it.

Left out: writing them (`pipeline`). Floor 5; pure.
"""

from collections.abc import Sequence
from typing import Any

from fairplay.evaluation.protocols.games import Game, PlayedPair
from fairplay.oracles.judge_template import conversation_text
from fairplay.oracles.judge_verdicts import NoVerdict


def annotation_rows(
    played: Sequence[PlayedPair], *, policy: str, opponent: str, annotator: str, dataset: str
) -> list[dict[str, Any]]:
    """One row a pair: the official columns, then `prompt_id`, `sample` and `games`.

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
            "output_1": item.pair.opponent.text,
            "generator_1": opponent,
            "dataset": dataset,
            "output_2": item.pair.policy.text,
            "generator_2": policy,
            "annotator": annotator,
            "preference": None if item.win_prob is None else 1 + item.win_prob,
            "prompt_id": item.pair.prompt.id,
            "sample": item.pair.sample,
            "games": [_game(game) for game in item.games],
        }
        for item in played
    ]


def _game(game: Game) -> dict[str, Any]:
    verdict = game.verdict
    shown: dict[str, Any] = {"policy_first": game.policy_first, "win_prob": game.win_prob, "reply": verdict.text}
    if isinstance(verdict, NoVerdict):
        return shown | {"failure": verdict.reason}
    return shown | {"label": verdict.label, "mass": verdict.mass, "by_log_probs": verdict.by_log_probs}
