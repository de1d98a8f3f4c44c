"""AlpacaEval's reading of a judge's reply: the log-probs of the two names `m` and `M` at the first token.

Left out: sending. Floor 5; pure.
"""

from collections.abc import Sequence
from math import exp, inf, log1p

from fairplay.oracles.judge_verdicts import NO_LABEL, NoVerdict, Verdict
from fairplay.servers.outcomes import Choice

FIRST, SECOND = "m", "M"


def official_win_prob(top: Sequence[tuple[str, float]]) -> float | None:
    """P(the first-shown output wins); None where neither name is among the tokens told, as the official NaN.

    Args:
        top: The likeliest first tokens with their log-probs, five of them officially. Only the exact tokens count, and
            a name that is not told has probability 0.

    Source: alpaca_eval 0.6.6, completion_parsers.logprob_parser with numerator "m", not binarised (it returns 2 - P).
    """
    told = dict(top)
    first, second = told.get(FIRST, -inf), told.get(SECOND, -inf)
    if first == second == -inf:
        return None
    if first == -inf or second == -inf:
        return float(second == -inf)
    gap = second - first  # stable on either side
    return 1 / (1 + exp(gap)) if gap < 0 else exp(-gap - log1p(exp(-gap)))


def official_preference(win_prob_first: float, *, model_first: bool) -> float:
    """AlpacaEval's preference in [1, 2], where 2 is the model, from P(the first-shown output wins)."""
    shown = 2 - win_prob_first
    return 3 - shown if model_first else shown


def read_official(choice: Choice) -> Verdict | NoVerdict:
    """The verdict in a reply, as AlpacaEval reads it."""
    top = choice.positions[0].top if choice.positions else ()
    win_prob = official_win_prob(top)
    if win_prob is None:
        return NoVerdict(NO_LABEL, choice.text)
    mass = sum(exp(logprob) for token, logprob in top if token in (FIRST, SECOND))
    return Verdict(win_prob, mass, FIRST if win_prob > 0.5 else SECOND, True, choice.text)
