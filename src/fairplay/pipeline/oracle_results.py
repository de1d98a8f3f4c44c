"""What an oracle's verdicts on pairs that were kept apart are worth, as plain data.

Left out: training it (`oracle_stages.py`), the page (`reports/oracle_page.py`). Floor 7.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from fairplay.preferences.length_bias import length_bias
from fairplay.preferences.reliability import reliability
from fairplay.preferences.reliability_intervals import reliability_intervals, reliability_points
from fairplay.training.oracle_summary import OracleTrainingSummary, Verdicts


def oracle_results(summary: OracleTrainingSummary, *, seed: int) -> dict[str, Any]:
    """Everything that is measured on the held-out pairs, which nothing was fitted to.

    Returns:
        `accuracy` (also of the pairs for calibration), `before` and `after` the temperature: Brier score, log loss,
        expected calibration error, each with its interval, and the reliability curve; `length`; and `order`, the
        effects of presentation order, empty for an oracle that reads each response alone.
    """
    held_out = summary.held_out
    logits, prompts = held_out.winner_logits(), held_out.prompt_ids
    sides = {
        name: {
            "temperature": temperature,
            **asdict(reliability_intervals(logits, prompts, temperature=temperature, seed=seed)),
            "mean_confidence": reliability(logits, temperature=temperature).mean_confidence,
            "points": [asdict(point) for point in reliability_points(logits, prompts, temperature=temperature)],
            "bins": [asdict(one) for one in reliability(logits, temperature=temperature).bins],
        }
        for name, temperature in (("before", 1.0), ("after", summary.temperature))
    }
    for_temperature = summary.calibration
    of_calibration = reliability_intervals(
        for_temperature.winner_logits(), for_temperature.prompt_ids, temperature=summary.temperature, seed=seed
    )
    return {
        "num_held_out": len(logits),
        "num_calibration": len(for_temperature.pair_ids),
        "accuracy": sides["after"].pop("accuracy"),
        "accuracy_calibration": asdict(of_calibration.accuracy),
        "ties": int((logits == 0).sum()),
        **{name: {key: value for key, value in side.items() if key != "accuracy"} for name, side in sides.items()},
        "temperature_of_held_out": reliability(logits, temperature=1.0).fitted_temperature,
        "length": asdict(length_bias(logits, np.asarray(held_out.length_gaps, dtype=np.float64), prompts)),
        "order": _order_effects(held_out),
    }


def _order_effects(verdicts: Verdicts) -> dict[str, float]:
    first, second = np.asarray(verdicts.chosen_first), np.asarray(verdicts.chosen_second)
    if (first == second).all():
        return {}
    return {
        "order_flip_rate": float((first * second < 0).mean()),
        "mean_order_bias": float((0.5 * (first - second)).mean()),
    }
