"""Engines in a second process, with a python and packages of its own, driven turn by turn by lines of JSON.

Both ends. What runs there, and with which data, is the peer's script's. Imports nothing of fairplay.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from measuring import Turn, turn


class PeerProcess:
    """This process's end.

    Args:
        python: What runs the script; `PYTHONPATH` is not handed on.
        script: A program that calls `serve`.
        threads: OpenMP's there.
    """

    def __init__(self, python: Path | str, script: Path, *, threads: int = 1) -> None:
        given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        given |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [str(python), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=given
        )

    def ask(self, what: str, **given: Any) -> Any:
        """What the peer answers.

        Raises:
            RuntimeError: If it fails, with its traceback, or has ended.
        """
        try:
            self.process.stdin.write(f"{json.dumps([what, given])}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the peer, asked for {what}, ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the peer, asked for {what}: {answer['error']}")
        return answer["found"]

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It ends when nothing more can be asked."""
        self.process.communicate()


class PeerEngine:
    """An engine of the peer, by its name there."""

    def __init__(self, peer: PeerProcess, name: str) -> None:
        self.peer, self.name = peer, name

    def turn(self, *, at_once: bool) -> Turn:
        """One turn, measured there."""
        return Turn(**self.peer.ask("turn", name=self.name, at_once=at_once))

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair."""
        return [(chosen, rejected) for chosen, rejected in self.peer.ask("reference_logps", name=self.name)]

    def close(self) -> None:
        """Its memory is free."""
        self.peer.ask("close", name=self.name)


def serve(engines: dict[str, Any], **answers: Callable[..., Any]) -> None:
    """The peer's end: answer until nothing more can be asked.

    Args:
        engines: By name, each with `step` and `reference_logps`; the answers fill it.
        answers: What else can be asked for, by name.
    """
    # What others print goes to stderr: stdout is for answers.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    known = {
        "turn": lambda name, at_once: asdict(turn(engines[name].step, at_once=at_once)),
        "reference_logps": lambda name: engines[name].reference_logps(),
        "close": lambda name: engines.pop(name) and None,
        **answers,
    }
    for line in sys.stdin:
        what, given = json.loads(line)
        try:
            answer = {"found": known[what](**given)}
        except Exception:  # noqa: BLE001 - told to who asked
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=told, flush=True)
