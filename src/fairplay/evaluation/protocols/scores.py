"""What a protocol's games say: win rates with intervals, bounds over what is missing, and the account of every game.

Left out: asking (`games`), files (`pipeline`). Floor 5. A missing verdict is neither a tie nor a loss: the pair is
missing, and where too many are there is no headline (`headline.py`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fairplay.errors import DataError
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.judging import Judged
from fairplay.evaluation.protocols.games import Played, PlayedPair
from fairplay.evaluation.protocols.style_control import style_control, style_differences
from fairplay.evaluation.protocols.table import Protocol
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.headline import headline_document
from fairplay.oracles.judge_verdicts import Verdict
from fairplay.records import Dropped, Judgement
from fairplay.servers.outcomes import CAP_REACHED
from fairplay.wording import reasons

POSITION_KEYS = ("position_consistency", "first_position_bias")


def protocol_document(
    protocol: Protocol,
    played: Played,
    *,
    names: tuple[str, str, str],
    orders: str,
    seed: int,
    num_bootstrap: int,
    alarms: Sequence[str] = (),
) -> dict[str, Any]:
    """The result of one comparison as plain data; rates are in [0, 1].

    Args:
        protocol: What was played.
        played: Everything that was to be judged.
        names: Policy, opponent, judge.
        orders: In which orders pairs were shown.
        seed: Of the run.
        num_bootstrap: Resamples behind each interval.
        alarms: What the canaries say against the judge; there is no headline then.

    Raises:
        DataError: If nothing was judged.
    """
    verdicts = as_judged(played)
    judged = [item for item in played.pairs if item.win_prob is not None]
    if not judged:
        failed = Counter(reason for item in played.pairs for reason in item.failures)
        raise DataError(f"{names[0]} against {names[1]}: no pair was judged ({reasons(failed)})")
    result = asdict(
        evaluate_judgements(
            verdicts.judgements,
            policy=names[0],
            opponent=names[1],
            judge=names[2],
            dropped=verdicts.dropped,
            seed=seed,
            num_bootstrap=num_bootstrap,
            notes=verdicts.notes,
        )
    )
    if orders != "both":
        result |= dict.fromkeys(POSITION_KEYS)
        result["statistics"] = result["statistics"] | {"first_position_bias": None}
    return {
        **headline_document(result, alarms),
        "partial": any(CAP_REACHED in item.failures for item in played.pairs),
        "games": games_account(played.pairs),
        "pairs": _pairs_account(played),
        "first_slot": _first_slot(judged, seed=seed, num_bootstrap=num_bootstrap),
        "length_unit": played.length_unit,
        **_extras(protocol, judged, verdicts.judgements, seed=seed, num_bootstrap=num_bootstrap),
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


def _pairs_account(played: Played) -> dict[str, Any]:
    pairs = played.pairs
    return {
        "requested": len(pairs) + len(played.unmatched),
        "judged": sum(item.win_prob is not None and not item.pair.same_text for item in pairs),
        "identical": sum(item.pair.same_text for item in pairs),
        "without_verdict": sum(item.win_prob is None for item in pairs),
        "without_partner": dict(sorted(Counter(item.reason for item in played.unmatched).items())),
    }


def as_judged(played: Played) -> Judged:
    """The verdicts in the form that every other judging has; a single game stands for both orders."""
    judgements = []
    for item in played.pairs:
        if item.win_prob is None:
            continue
        by_order = {game.policy_first: game.win_prob for game in item.games}
        first, second = by_order.get(True), by_order.get(False)
        judgements.append(
            Judgement(
                prompt_id=item.pair.prompt.id,
                sample=item.pair.sample,
                win_prob_first=item.win_prob if first is None else first,
                win_prob_second=item.win_prob if second is None else second,
                policy_length=item.pair.policy_length,
                opponent_length=item.pair.opponent_length,
            )
        )
    missing = [Dropped(item.pair.prompt.id, item.failures[0]) for item in played.pairs if item.failures]
    notes = (f"Lengths are in {played.length_unit}.",)
    return Judged(tuple(judgements), (*played.unmatched, *missing), played.length_unit, notes)


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
    texts = [(item.pair.policy, item.pair.opponent) for item in judged]
    rows = style_differences([one for one, _ in texts], [other for _, other in texts], lengths, others)
    number = {name: place for place, name in enumerate(sorted({item.prompt_id for item in judgements}))}
    index = np.array([number[item.prompt_id] for item in judgements])
    counts = np.bincount(index)
    scores = np.bincount(index, weights=[item.win_prob for item in judgements]) / counts
    means = np.stack([np.bincount(index, weights=column) / counts for column in rows.T], axis=1)
    return style_control(scores, means, seed=seed, num_bootstrap=num_bootstrap)
