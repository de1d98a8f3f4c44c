"""What a protocol's games say: win rates with intervals, bounds over what is missing, and the account of every game.

Left out: asking (`games`), files (`pipeline`). Floor 5. A missing verdict is neither a tie nor a loss: the pair is
missing, and where more than 5 % are there is no headline.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fairplay.errors import DataError
from fairplay.evaluation.comparison_notes import DROPPED_LIMIT, DROPPED_WARNING
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.protocols.games import PlayedPair
from fairplay.evaluation.protocols.style_control import style_control, style_differences
from fairplay.evaluation.protocols.table import Protocol
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.oracles.judge_verdicts import Verdict
from fairplay.records import Dropped, Judgement
from fairplay.servers.outcomes import CAP_REACHED

POSITION_KEYS = ("position_consistency", "first_position_bias")


def protocol_document(
    protocol: Protocol,
    played: Sequence[PlayedPair],
    unmatched: Sequence[Dropped],
    *,
    names: tuple[str, str, str],
    orders: str,
    seed: int,
    num_bootstrap: int,
) -> dict[str, Any]:
    """The result of one comparison as plain data; rates are in [0, 1].

    Args:
        protocol: What was played.
        played: Every pair that was to be judged.
        unmatched: Responses without a partner.
        names: Policy, opponent, judge.
        orders: In which orders pairs were shown.
        seed: Of the run.
        num_bootstrap: Resamples behind each interval.

    Raises:
        DataError: If nothing was judged.
    """
    judged = [item for item in played if item.win_prob is not None]
    if not judged:
        reasons = dict(Counter(reason for item in played for reason in item.failures))
        raise DataError(f"{names[0]} against {names[1]}: no pair was judged ({reasons or 'no prompt in common'})")
    missing = [Dropped(item.pair.prompt.id, item.failures[0]) for item in played if item.failures]
    dropped = [*unmatched, *missing]
    share = len(dropped) / (len(played) + len(unmatched))
    unit, judgements = _judgements(judged)
    result = asdict(
        evaluate_judgements(
            judgements,
            policy=names[0],
            opponent=names[1],
            judge=names[2],
            dropped=dropped,
            seed=seed,
            num_bootstrap=num_bootstrap,
            notes=(f"Lengths are in {unit}.",),
        )
    )
    if orders != "both":
        result |= dict.fromkeys(POSITION_KEYS)
        result["statistics"] = result["statistics"] | {"first_position_bias": None}
        result["statistics"]["first_position_bias"] = None
    withheld = share > DROPPED_LIMIT
    headline = {"win_rate": result["win_rate"], "lc_win_rate": result["lc_win_rate"]}
    if result["statistics"]["lc_extrapolates"]:
        headline["lc_win_rate"] = None
    return {
        "headline": None if withheld else headline,
        "headline_withheld": f"{100 * share:.1f} % of the pairs have no verdict" if withheld else "",
        "partial": any(item.reason == CAP_REACHED for item in missing),
        "missing_share": share,
        "missing_warning": share > DROPPED_WARNING,
        "worst_case": _bounds(judged, dropped),
        "games": games_account(played),
        "pairs": _pairs_account(played, unmatched),
        "first_slot": _first_slot(judged, seed=seed, num_bootstrap=num_bootstrap),
        "length_unit": unit,
        **_extras(protocol, judged, judgements, seed=seed, num_bootstrap=num_bootstrap),
        "result": result,
    }


def games_account(played: Sequence[PlayedPair]) -> dict[str, Any]:
    """Requested = ok + each failure; and how the verdicts were read."""
    games = [game for item in played for game in item.games]
    verdicts = [game.verdict for game in games if isinstance(game.verdict, Verdict)]
    failures = Counter(reason for item in played for reason in item.failures)
    by_log_probs = [verdict for verdict in verdicts if verdict.by_log_probs]
    return {
        "requested": len(games),
        "ok": len(verdicts),
        "failures": dict(sorted(failures.items())),
        "read_by_log_probs": len(by_log_probs),
        "mean_mass": float(np.mean([verdict.mass for verdict in by_log_probs])) if by_log_probs else None,
        "labels": dict(sorted(Counter(verdict.label for verdict in verdicts).items())),
    }


def _pairs_account(played: Sequence[PlayedPair], unmatched: Sequence[Dropped]) -> dict[str, Any]:
    return {
        "requested": len(played) + len(unmatched),
        "judged": sum(item.win_prob is not None and not item.pair.same_text for item in played),
        "identical": sum(item.pair.same_text for item in played),
        "without_verdict": sum(item.win_prob is None for item in played),
        "without_partner": dict(sorted(Counter(item.reason for item in unmatched).items())),
    }


def _judgements(judged: Sequence[PlayedPair]) -> tuple[str, list[Judgement]]:
    """The unit of the lengths and the judgements; a single game stands for both orders."""
    sides = [(item.pair.policy, item.pair.opponent) for item in judged]
    in_tokens = all(one.token_ids and other.token_ids for one, other in sides)
    judgements = []
    for item, (one, other) in zip(judged, sides, strict=True):
        by_order = {game.policy_first: game.win_prob for game in item.games}
        mean = item.win_prob if item.win_prob is not None else 0.5
        first, second = by_order.get(True), by_order.get(False)
        judgements.append(
            Judgement(
                prompt_id=item.pair.prompt.id,
                sample=item.pair.sample,
                win_prob_first=mean if first is None else first,
                win_prob_second=mean if second is None else second,
                policy_length=len(one.token_ids) if in_tokens else len(one.text),
                opponent_length=len(other.token_ids) if in_tokens else len(other.text),
            )
        )
    return "tokens" if in_tokens else "characters", judgements


def _bounds(judged: Sequence[PlayedPair], dropped: Sequence[Dropped]) -> dict[str, float]:
    """The win rate if everything missing were lost, and if it were won; pairs count alike."""
    wins = sum(item.win_prob or 0.0 for item in judged)
    total = len(judged) + len(dropped)
    return {"low": wins / total, "high": (wins + len(dropped)) / total}


def _first_slot(judged: Sequence[PlayedPair], *, seed: int, num_bootstrap: int) -> dict[str, Any] | None:
    """What being shown first is worth: mean of P(the first-shown wins) - 1/2 over prompts."""
    by_prompt: dict[str, list[float]] = {}
    for item in judged:
        for game in item.games:
            if isinstance(game.verdict, Verdict):
                by_prompt.setdefault(item.pair.prompt.id, []).append(game.verdict.win_prob - 0.5)
    if not by_prompt:
        return None
    means = np.array([np.mean(values) for _, values in sorted(by_prompt.items())])
    return asdict(mean_interval(means, centre=0.0, limit=0.5, seed=seed, num_bootstrap=num_bootstrap))


def _extras(
    protocol: Protocol,
    judged: Sequence[PlayedPair],
    judgements: Sequence[Judgement],
    *,
    seed: int,
    num_bootstrap: int,
) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if protocol.strong:
        weighted = [
            (game.win_prob or 0.0, 3.0 if game.verdict.label in protocol.strong else 1.0)
            for item in judged
            for game in item.games
            if isinstance(game.verdict, Verdict)
        ]
        total = sum(weight for _, weight in weighted)
        score = sum(win * weight for win, weight in weighted) / total if total else 0.5
        extras["score_with_strong_verdicts_thrice"] = score
    if protocol.style_control:
        control = _style(judged, judgements, seed=seed, num_bootstrap=num_bootstrap)
        extras["style_control"] = asdict(control)
    return extras


def _style(judged: Sequence[PlayedPair], judgements: Sequence[Judgement], *, seed: int, num_bootstrap: int) -> Any:
    lengths = np.array([item.policy_length for item in judgements], dtype=np.float64)
    others = np.array([item.opponent_length for item in judgements], dtype=np.float64)
    texts = [(item.pair.policy.text, item.pair.opponent.text) for item in judged]
    rows = style_differences([one for one, _ in texts], [other for _, other in texts], lengths, others)
    number = {name: place for place, name in enumerate(sorted({item.prompt_id for item in judgements}))}
    index = np.array([number[item.prompt_id] for item in judgements])
    counts = np.bincount(index)
    scores = np.bincount(index, weights=[item.win_prob for item in judgements]) / counts
    means = np.stack([np.bincount(index, weights=column) / counts for column in rows.T], axis=1)
    return style_control(scores, means, seed=seed, num_bootstrap=num_bootstrap)
