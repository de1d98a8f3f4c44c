"""Fitting the temperature of any oracle on labelled responses.

Left out: the fit itself (`preferences/calibration.py`), keeping it (`facts.py`). Floor 4; imports no torch.
"""

from collections.abc import Sequence

from fairplay.errors import DataError
from fairplay.oracles.contract import PreferenceOracle
from fairplay.preferences.calibration import fit_score_temperature
from fairplay.preferences.reliability import winner_logits
from fairplay.records import ResponseGroup


def fitted_temperature(
    oracle: PreferenceOracle, groups: Sequence[ResponseGroup], scores: Sequence[Sequence[float]]
) -> float:
    """The temperature that makes sigmoid(d / T) the likeliest probabilities for labelled pairs.

    For `facts.write_facts`, so that a reward model whose score is bounded (such as ArmoRM's, in 0 to 1, where the
    sigmoid of a difference says 1/2 to everything) gives probabilities; or for the setting `temperature`.

    Args:
        oracle: Who is asked.
        groups: Labelled responses.
        scores: Scores by people or a better judge, [groups][K], higher is better; a pair of equal scores says nothing.

    Returns:
        T, in units of the oracle's logits.

    Raises:
        DataError: If no pair is labelled, or the oracle gives a verdict that is not a finite number.
    """
    logits = winner_logits(oracle.pair_logits(groups), scores)
    if not len(logits):
        raise DataError("no pair is labelled, so there is no temperature to fit", hint="give scores that differ")
    return fit_score_temperature(logits)
