"""Fitting an oracle's temperature on pairs of which the better response is known.

Left out: asking the oracle (`training/oracle_training.py`). Floor 2; pure.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fit_temperature(chosen_logits: NDArray[np.floating]) -> float:
    """The temperature T that makes the labels most likely: argmin over T of mean log(1 + exp(-d / T)).

    Args:
        chosen_logits: Logit d that the labelled winner beats the loser, both presentation orders averaged, [pairs].

    Returns:
        T, within [0.05, 20]: the lower end where every pair is right (any sharper is likelier), the upper end where
        the logits say nothing about the labels.

    Raises:
        ValueError: If there is no pair, or a logit is not finite.

    Source: Guo et al. 2017, arXiv:1706.04599 (temperature scaling), for two classes.
    """
    logits = np.asarray(chosen_logits, dtype=np.float64)
    if not logits.size or not np.isfinite(logits).all():
        raise ValueError("a temperature is fitted on one or more finite logits")

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -logits / np.exp(log_temperature)).mean())

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    best = min((*bounds, float(found.x)), key=loss)
    return float(np.exp(best))


def fit_score_temperature(chosen_logits: NDArray[np.floating]) -> float:
    """The same for logits of any unit, such as differences of a score within 0 and 1.

    Args:
        chosen_logits: As for `fit_temperature`, [pairs].

    Returns:
        T, within [0.05, 20] times the root mean square of the logits; 1 where all of them are 0.

    Raises:
        ValueError: If there is no pair, or a logit is not finite.
    """
    logits = np.asarray(chosen_logits, dtype=np.float64)
    unit = float(np.sqrt(np.square(logits).mean())) if logits.size else 0.0
    if not unit:
        fit_temperature(logits)  # refuses what can't be fitted
        return 1.0
    return unit * fit_temperature(logits / unit)
