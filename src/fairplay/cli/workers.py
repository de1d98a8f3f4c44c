"""One command as several processes of this machine, which train together: `--nproc-per-node N`.

As `torchrun --standalone` would start them, but for two things that it does not keep: the exit code, and a first signal
that asks for a clean stop. Left out: several machines (torchrun), what the processes do (`training/crew.py`). Floor 8;
imports no torch.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fairplay.errors import ResourceError, SettingsError

# Seconds for the others to notice that one failed, and then to come to a clean stop before they are killed.
TO_NOTICE, TO_STOP = 15.0, 60.0
_POLL = 0.05
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def are_wanted(num_processes: int) -> bool:
    """Whether this process is to start workers, or is one of them already.

    Args:
        num_processes: What `--nproc-per-node` says.

    Raises:
        SettingsError: If torchrun started another number of processes.
    """
    started = os.environ.get("WORLD_SIZE")
    if started is not None and num_processes > 1 and int(started) != num_processes:
        raise SettingsError(
            f"--nproc-per-node: torchrun started {started} processes, not {num_processes}",
            hint="leave the option away under torchrun",
        )
    return started is None and num_processes > 1


def run_workers(arguments: Sequence[str], num_processes: int) -> int:
    """Run the command line in so many processes, until all have ended.

    The first one prints and hears SIGINT and SIGTERM. One that fails ends the others.

    Args:
        arguments: The command line after `fairplay`.
        num_processes: How many, on a machine with GPUs at most one for each.

    Returns:
        The exit code of the first that failed, 4 where that was killed; else 0.
    """
    port = _free_port()
    workers = [_start(arguments, rank, num_processes, port) for rank in range(num_processes)]
    with _passing_on(workers[0]):
        failed = _first_failure(workers)
        if failed is not None:
            _end(workers)
    if failed is None:
        return 0
    code = workers[failed].returncode
    if code > 0:
        return code
    killer = signal.Signals(-code).name
    print(f"worker {failed} was killed by {killer}; Linux does so where memory runs out", file=sys.stderr)
    return ResourceError.exit_code


def _start(arguments: Sequence[str], rank: int, size: int, port: int) -> "subprocess.Popen[bytes]":
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // size)), **os.environ}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    environment |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    return subprocess.Popen(
        [sys.executable, "-m", "fairplay", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C of a terminal reaches this process alone, which passes it on once
        preexec_fn=_stop_with_parent(),  # noqa: PLW1509  # this process has no threads
    )


def _stop_with_parent() -> Callable[[], None] | None:
    """What a child does first: be asked to stop if this process is killed."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _passing_on(first: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Give SIGINT and SIGTERM to the first worker, which stops all of them."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        first.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_failure(workers: "Sequence[subprocess.Popen[bytes]]") -> int | None:
    """The number of the worker that failed first; None once all have ended well."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [rank for rank, code in enumerate(codes) if code]
        # One that is killed takes the others with it: they end a moment later, with a code of their own.
        failed.sort(key=lambda rank: (codes[rank] or 0) > 0)
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(_POLL)


def _end(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Wait for the workers to end; ask them to, and at last make them."""
    for seconds, act in ((TO_NOTICE, subprocess.Popen.terminate), (TO_STOP, subprocess.Popen.kill)):
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and any(worker.poll() is None for worker in workers):
            time.sleep(_POLL)
        for worker in workers:
            if worker.poll() is None:
                act(worker)
    for worker in workers:
        worker.wait()
