"""With how many processes a training was begun: its steps stay what they were then, however many go on with it.

A step has `per_device_train_batch_size * gradient_accumulation_steps` examples on each process. Left out: what else
identifies a training (`fingerprint.py`), how a step is divided (`plan.py`). Floor 5.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairplay.storage.atomic import write_atomic
from fairplay.training.distributed import Ranks, current_ranks, of_all_ranks
from fairplay.training.settings import TrainingSettings


@dataclass(frozen=True)
class Begun:
    """A training as it was begun.

    Attributes:
        settings: As a single process would have them: steps accumulate the micro-batches of all processes.
        fingerprint: Identifies the training.
        num_processes: How many processes there were.
    """

    settings: TrainingSettings
    fingerprint: str
    num_processes: int

    def write(self, path: Path) -> None:
        """Keep it for those that go on; of several processes the first does.

        Raises:
            ResourceError: If the disk is full or not writable.
        """
        if not current_ranks().is_first:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {"fingerprint": self.fingerprint, "num_processes": self.num_processes}
        write_atomic(path, json.dumps(known) + "\n")


def begun_training(
    path: Path, settings: TrainingSettings, ranks: Ranks, identity: Callable[[TrainingSettings], str]
) -> Begun:
    """The training that is asked for, as it was begun if it was, else as these processes begin it.

    Args:
        path: What `Begun.write` wrote, if anything.
        settings: How to train, as given to each process.
        ranks: The processes that train now.
        identity: The fingerprint of the training with such settings.
    """
    known = ranks.gather_objects(_read(path) if ranks.is_first else None)[0]
    before = _as_begun_by(known.get("num_processes", ranks.size), settings, identity)
    is_the_same = before.fingerprint == known.get("fingerprint")
    return before if is_the_same else _as_begun_by(ranks.size, settings, identity)


def _as_begun_by(num_processes: int, settings: TrainingSettings, identity: Callable[[TrainingSettings], str]) -> Begun:
    whole = of_all_ranks(settings, num_processes)
    return Begun(whole, identity(whole), num_processes)


def _read(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known
