"""An oracle's verdicts on pairs that were kept apart: their files, and what they are worth as plain data.

Left out: training it (`oracle_stages.py`), the page (`reports/oracle_page.py`). Floor 7.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fairplay.preferences.length_bias import length_bias
from fairplay.preferences.reliability import reliability
from fairplay.preferences.reliability_intervals import reliability_intervals, reliability_points
from fairplay.storage.tables import read_records, write_records
from fairplay.training.oracle_summary import Verdicts

KEPT_APART = ("calibration", "held_out")


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """One row of `Verdicts`, as it lies on disk."""

    pair_ids: str
    prompt_ids: str
    chosen_first: float
    chosen_second: float
    length_gaps: int


def write_verdicts(folder: Path, verdicts: Mapping[str, Verdicts]) -> None:
    """Write what the trained oracle says of the pairs of each part in `KEPT_APART`."""
    names = [item.name for item in fields(PairVerdict)]
    for part in KEPT_APART:
        columns = [getattr(verdicts[part], name) for name in names]
        write_records(_path(folder, part), [PairVerdict(*row) for row in zip(*columns, strict=True)], PairVerdict)


def read_verdicts(folder: Path) -> dict[str, Verdicts]:
    """The verdicts that lie in a stage's folder, by part; empty where an older release kept none.

    Raises:
        DataError: If a file is damaged.
    """
    if not all(_path(folder, part).is_file() for part in KEPT_APART):
        return {}
    found = {part: read_records(_path(folder, part), PairVerdict) for part in KEPT_APART}
    names = [item.name for item in fields(PairVerdict)]
    return {
        part: Verdicts(**{name: tuple(getattr(row, name) for row in rows) for name in names})
        for part, rows in found.items()
    }


def _path(folder: Path, part: str) -> Path:
    return folder / f"verdicts-{part}.parquet"


def oracle_results(verdicts: Mapping[str, Verdicts], *, temperature: float, seed: int) -> dict[str, Any]:
    """Everything that is measured on the held-out pairs, which nothing was fitted to.

    Args:
        verdicts: What the oracle says of the pairs of each part in `KEPT_APART`.
        temperature: T, fitted on the pairs for calibration.
        seed: Seed of the run.

    Returns:
        `accuracy` (also of the pairs for calibration), `before` and `after` the temperature: Brier score, log loss,
        expected calibration error, each with its interval, and the reliability curve; `length`; and `order`, the
        effects of presentation order, empty for an oracle that reads each response alone.
    """
    for_temperature, held_out = (verdicts[part] for part in KEPT_APART)
    logits, prompts = held_out.winner_logits(), held_out.prompt_ids
    sides = {
        name: {
            "temperature": temperature,
            **asdict(reliability_intervals(logits, prompts, temperature=temperature, seed=seed)),
            "mean_confidence": reliability(logits, temperature=temperature).mean_confidence,
            "points": [asdict(point) for point in reliability_points(logits, prompts, temperature=temperature)],
            "bins": [asdict(one) for one in reliability(logits, temperature=temperature).bins],
        }
        for name, temperature in (("before", 1.0), ("after", temperature))
    }
    of_calibration = reliability_intervals(
        for_temperature.winner_logits(), for_temperature.prompt_ids, temperature=temperature, seed=seed
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
