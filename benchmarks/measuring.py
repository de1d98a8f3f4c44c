"""Measuring engines against each other: they take turns, in an order drawn anew every round.

Time is CPU seconds of the process that takes the turn, so that other work on the machine counts little; what remains
of it hits all engines alike, and only ratios within a round are reported. Memory is how far the resident set rises
within a turn: as the C library keeps its heap, and, in a round of its own, what is really in use, each large block
going back to the system at once (it takes longer, so that round is not timed).
"""

import ctypes
import gc
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Turn:
    """What one turn took in the process that took it.

    Attributes:
        result: What the engine returned.
        seconds: CPU seconds, of all threads, in user and in system mode.
        mib: Growth of the resident set's high-water mark within the turn, MiB.
    """

    result: float
    seconds: float
    mib: float


@dataclass
class Turns:
    """What an engine's turns took, one value a round.

    Attributes:
        seconds: CPU seconds.
        mib: Growth of the resident set's high-water mark within the turn, MiB.
        mib_in_use: The same in the round in which freed blocks are given back at once.
        results: What the engine returned, the warm-up round's first.
    """

    seconds: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    mib_in_use: float = 0.0
    results: list[float] = field(default_factory=list)


def turn(step: Callable[[], float], *, at_once: bool) -> Turn:
    """One turn of an engine of this process.

    Args:
        step: What runs.
        at_once: Whether freed blocks go back to the system at once.
    """
    _give_back(at_once=at_once)
    _forget_peak()
    before, start = _status("VmRSS"), time.process_time()
    result = step()
    return Turn(result, time.process_time() - start, _status("VmHWM") - before)


def resident_mib() -> float:
    """MiB of the resident set, free memory given back."""
    _forget_peak()
    return _status("VmRSS")


def take_turns(engines: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Turns]:
    """Every engine once a round, after one round that is not counted and one for memory.

    Args:
        engines: What runs, by name; it returns a number to compare.
        rounds: Rounds that are counted.
    """
    found: dict[str, Turns] = {}
    steps = {name: partial(turn, step) for name, step in engines.items()}
    play_rounds(steps, range(-1, rounds + 1), found)
    return found


def play_rounds(engines: Mapping[str, Callable[..., Turn]], rounds: Iterable[int], found: dict[str, Turns]) -> None:
    """Some of the rounds; those after it may go on with fewer engines.

    Args:
        engines: What takes a turn and measures it where it runs, by name; asked with `at_once`, as in `turn`.
        rounds: -1 is not counted, 0 tells what is in use, others are counted.
        found: What was measured in the rounds before; grows.
    """
    for name in engines:
        found.setdefault(name, Turns())
    for round_number in rounds:
        order = list(engines)
        random.Random(round_number).shuffle(order)
        for name in order:
            took, known = engines[name](at_once=round_number < 1), found[name]
            known.results.append(took.result)
            if round_number == 0:
                known.mib_in_use = took.mib
            if round_number > 0:
                known.seconds.append(took.seconds)
                known.mib.append(took.mib)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(of: Turns, to: Turns) -> dict[str, float]:
    """How many times the time of the second engine the first one took, in each round that both had."""
    return spread([one / other for one, other in zip(of.seconds, to.seconds, strict=False)])


def told(values: Mapping[str, float]) -> str:
    """A ratio in a table."""
    return f"{values['median']:.2f} [{values['min']:.2f}-{values['max']:.2f}]"


def machine(*packages: str) -> dict[str, str | int]:
    """What the figures were taken on: processor, threads, versions, day."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": f"{models[0] if models else platform.machine()}{', AMX' if 'amx_bf16' in flags else ''}",
        "cores": len(models),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", *packages)},
    }


def _give_back(*, at_once: bool) -> None:
    """Whether freed blocks of 64 KiB and more go back to the system at once, or from 32 MiB on, as after a while."""
    mmap_threshold, size = -3, 2**16 if at_once else 2**25
    ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, size)


def _forget_peak() -> None:
    """Give freed memory back, then set the high-water mark to what is held."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")


def _status(key: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
