"""Canaries: responses that must not win, judged against the opponent, so that a judge that can be fooled is found out.

Left out: making the second sample (the pipeline generates it). Floor 5.

An empty response, a single mark and a refusal that fits every prompt must lose nearly always; a second sample of the
opponent must win half of its games. A constant text once won 86 % of AlpacaEval 2 (Zheng et al. 2024,
arXiv:2410.07137), so a judge that has not lost to its canaries proves nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.judging import Judged
from fairplay.evaluation.settings import CANARIES, SECOND_SAMPLE
from fairplay.records import Interval, Response, ResponseGroup

TEXTS: Mapping[str, str] = {
    "empty": "",
    "dot": ".",
    "refusal": "I'm sorry, but I can't help with that request.",
}
MAX_WIN_RATE = 0.10
"""Share of games above which a canary that must lose raises an alarm."""
SHARPER = " A smaller `judge.temperature`, the points of score that make odds of e to 1, makes this judge sharper."


@dataclass(frozen=True, slots=True)
class Canary:
    """How one canary fared against the opponent.

    Attributes:
        canary: A name in `CANARIES`.
        num_prompts: Prompts on which it was judged.
        win_rate: Its win rate, in [0, 1]; None where no game was judged.
        dropped: Reason -> games that were asked for and not judged.
        alarm: What is wrong, in a sentence; empty where it fared as it must.
    """

    canary: str
    num_prompts: int
    win_rate: Interval | None
    dropped: Mapping[str, int] = field(default_factory=dict)
    alarm: str = ""


def canary_groups(canary: str, opponent: Sequence[ResponseGroup]) -> list[ResponseGroup]:
    """The constant responses of a canary, one for each prompt."""
    return [ResponseGroup(group.prompt, (Response(TEXTS[canary]),)) for group in opponent]


def canary_result(canary: str, judged: Judged, *, seed: int, num_bootstrap: int, judge_scores: bool = False) -> Canary:
    """What the judging of a canary against the opponent says about the judge.

    Args:
        canary: A name in `CANARIES`.
        judged: Its games, one sample a prompt.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.
        judge_scores: Whether the judge scores each response alone, so that its temperature makes it sharper.
    """
    dropped = dict(sorted(Counter(item.reason for item in judged.dropped).items()))
    if not judged.judgements:
        return Canary(canary, 0, None, dropped, f"The canary “{CANARIES[canary]}” could not be judged at all.")
    columns = judgement_columns(judged.judgements)
    scores = columns.prompt_scores()
    rate = mean_interval(scores, centre=0.5, limit=0.5, seed=seed, num_bootstrap=num_bootstrap)
    alarm = _alarm(canary, rate, int((scores > 0.5).sum()), len(scores))
    if alarm and judge_scores and canary != SECOND_SAMPLE and not (scores > 0.5).any():
        alarm += SHARPER
    return Canary(canary, columns.num_prompts, rate, dropped, alarm)


def _alarm(canary: str, rate: Interval, num_won: int, num_games: int) -> str:
    told = f"wins {100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}] of its games"
    if canary == SECOND_SAMPLE:
        if rate.low <= 0.5 <= rate.high:
            return ""
        return (
            f"A second sample of the opponent {told} against the first one: the judge tells apart what is one policy "
            "(one sound judge in twenty does so by chance)."
        )
    if rate.value <= MAX_WIN_RATE:
        return ""
    outright = (
        f"It won {num_won} of {num_games} games outright."
        if num_won
        else f"It won none of the {num_games} games outright: its share is what verdicts near one half leave it."
    )
    limit = f"must not win more than {100 * MAX_WIN_RATE:.0f} %"
    return f"The canary “{CANARIES[canary]}” {told}, and {limit}. {outright}"
