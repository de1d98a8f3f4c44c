"""The checkpoints' games against each other as finished text: the matrix, the mixture that nobody beats, the advice.

Left out: the figures (`evaluation/checkpoint_game.py`), the page's form (`templates/`). Floor 5; pure.
"""

from dataclasses import dataclass

from fairplay.records import CheckpointGame
from fairplay.reports.wording import NOT_DEFINED, bounds, number, percent, percent_interval

NO_WEIGHT = 0.0005
"""A share of the mixture that is none: what the solver leaves behind, shown as 0.0 %."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint: its win rate against each, as (estimate, interval), and its share of the mixture."""

    name: str
    cells: tuple[tuple[str, str], ...]
    weight: str


def checkpoint_rows(game: CheckpointGame) -> tuple[CheckpointRow, ...]:
    """A row for each checkpoint, the start first; nothing on the diagonal."""
    return tuple(
        CheckpointRow(
            name=name,
            cells=tuple(
                (NOT_DEFINED, "") if i == j else (percent(one.value), bounds(one))
                for j, one in enumerate(game.win_rates[i])
            ),
            weight=percent(game.nash[i]),
        )
        for i, name in enumerate(game.names)
    )


def advice_sentences(game: CheckpointGame) -> tuple[str, ...]:
    """What to do next and why, then what the mixture is."""
    last, previous = game.names[-1], game.names[-2]
    against_previous = percent_interval(game.win_rates[-1][-2])
    advice = {
        "stop": f"Stop: {game.exploiter} beats {last} in {percent(0.5 + game.exploitability)} of the games, so "
        f"training goes backwards or in circles; use {_mixture(game)} instead.",
        "no progress": f"No progress: {last} against {previous} is {against_previous}, which may be nothing. "
        + ("No checkpoint surely beats it" if _mixture(game) == last else f"Use {_mixture(game)}, which none beats")
        + "; to get further, go on with more or other prompts.",
        "go on": f"Go on: {last} beats {previous} ({against_previous}), and no checkpoint surely beats it.",
    }[game.advice]
    bound = (
        f"{last} can be exploited: some policy wins at least {percent(0.5 + game.exploitability_low)} of the games "
        f"against it (95 % confidence; measured {number(100 * game.exploitability)} points above one half)."
        if game.exploitability_low > 0
        else f"No checkpoint is known to exploit {last}; policies that were not tried may."
    )
    return advice, bound


def _mixture(game: CheckpointGame) -> str:
    """The checkpoints of the mixture that none of them beats, with their shares."""
    shares = [(name, weight) for name, weight in zip(game.names, game.nash, strict=True) if weight > NO_WEIGHT]
    if len(shares) == 1:
        return shares[0][0]
    return "a mixture of " + ", ".join(f"{name} ({percent(weight)})" for name, weight in shares)
