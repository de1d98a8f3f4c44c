"""What training an oracle hands back, and its file `summary.json`, which makes a finished training a no-op.

Left out: what the verdicts are worth (`preferences/reliability.py`). Floor 5; imports no torch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairplay.records import Dropped
from fairplay.storage.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the trained oracle says of labelled pairs, [pairs] each.

    Attributes:
        pair_ids, prompt_ids: Of each pair.
        chosen_first, chosen_second: Logit that the chosen response wins, shown first and shown second; the same for
            oracles that read each response alone. No temperature is in them.
        length_gaps: Tokens of the chosen response less those of the rejected one, as far as they are read.
    """

    pair_ids: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    chosen_first: tuple[float, ...]
    chosen_second: tuple[float, ...]
    length_gaps: tuple[int, ...]

    def winner_logits(self) -> NDArray[np.float64]:
        """Logit that the chosen response wins, both presentation orders averaged, [pairs]."""
        logits: NDArray[np.float64] = 0.5 * (np.asarray(self.chosen_first) + np.asarray(self.chosen_second))
        return logits


@dataclass(frozen=True, slots=True)
class OracleTrainingSummary:
    """What happened in a training.

    Attributes:
        steps: Optimiser steps.
        num_pairs: Pairs learnt from, in one pass.
        dropped: Pairs of all parts left out, with the reason.
        num_truncated: Pairs of all parts of which only a part is read.
        tokens: Tokens that were read in training, padding not counted.
        first_loss, last_loss: Loss of the first and of the last record of `metrics.jsonl`, nats.
        seconds: Wall time of the steps, over all resumed parts.
        temperature: T fitted on the pairs for calibration; saved with the oracle.
        calibration, held_out: Verdicts on the pairs that were kept apart.
    """

    steps: int
    num_pairs: int
    dropped: tuple[Dropped, ...]
    num_truncated: int
    tokens: int
    first_loss: float
    last_loss: float
    seconds: float
    temperature: float
    calibration: Verdicts
    held_out: Verdicts


def write_summary(path: Path, summary: OracleTrainingSummary, fingerprint: str) -> None:
    """Write the summary of a finished training.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    write_atomic(path, json.dumps({"fingerprint": fingerprint, "summary": asdict(summary)}, indent=1) + "\n")


def read_summary(path: Path, fingerprint: str) -> OracleTrainingSummary | None:
    """The summary of this very training, or None if it has not finished or the file is of another one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if content["fingerprint"] != fingerprint:
        return None
    values = content["summary"]
    verdicts = {
        name: Verdicts(**{key: tuple(column) for key, column in values[name].items()})
        for name in ("calibration", "held_out")
    }
    return OracleTrainingSummary(
        **{**values, "dropped": tuple(Dropped(**one) for one in values["dropped"]), **verdicts}
    )
