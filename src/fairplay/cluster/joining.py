"""Joining a Ray that somebody else has started: whether anybody is there, and waiting for it no longer than it's worth.

Left alone, Ray asks a dead address for many minutes, from code that hears no signal and can't be left in a thread: the
process would not end. Left out: joining itself, and Ray of one command (`ray_session.py`). Importing this module does
not import Ray. Floor 3.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fairplay.errors import Preempted, ResourceError

_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_JOIN = 60.0
# The alarm ends it also where nobody is left to do so.
_JOIN = """
import os, signal, sys
signal.alarm(int(sys.argv[2]))
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
os._exit(0)
"""
_HINT = "`ray start --head` on the first machine starts a cluster; cluster.address=local needs none"


def refuse_dead_address(address: str) -> None:
    """Connect once to where Ray would look for its cluster.

    Args:
        address: `auto`, or `HOST:PORT`.

    Raises:
        ResourceError: If `auto` finds no cluster, or nobody listens there.
        ValueError: If Ray can't read the address.
    """
    from ray._private import services, utils

    file = utils.get_ray_address_file(None)  # type: ignore[attr-defined]
    try:
        found = services.canonicalize_bootstrap_address(address)
    except ConnectionError as error:
        raise ResourceError(
            f"cluster.address={address}: no cluster runs on this machine, and neither RAY_ADDRESS nor {file} names one",
            hint=_HINT,
        ) from error
    if found is None:  # RAY_ADDRESS=local
        return
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ResourceError(
            f"{_source(address, found, file)}: nobody listens there ({error.strerror or error})", hint=_HINT
        ) from error


def _source(address: str, found: str, file: str) -> str:
    """Which address that is, and who has named it."""
    from ray._private import services, utils

    named = address
    where = f"cluster.address={address}"
    if address == "auto":
        if named := os.environ.get("RAY_ADDRESS", ""):
            where += f": RAY_ADDRESS={named}"
        elif named := utils.read_ray_address() or "":
            where += f": {file} (left by a cluster that is gone?) names {named}"
    if named and services.canonicalize_bootstrap_address(named) == found:
        return where if named == found else f"{where}, for Ray {found}"
    return f"cluster.address={address}: a process of Ray on this machine names {found}"


def refuse_silent_address(address: str) -> None:
    """Join and leave in a process that can be ended; what it raises in time, this process will be told as well.

    Args:
        address: `auto`, or `HOST:PORT`.

    Raises:
        Preempted: At the first SIGINT or SIGTERM.
        ResourceError: If it takes longer than a minute.
    """
    seconds = str(math.ceil(_SECONDS_TO_JOIN) + 1)
    quiet = subprocess.DEVNULL
    with (
        _stopped_at_once(),
        subprocess.Popen(
            [sys.executable, "-c", _JOIN, address, seconds], stdin=quiet, stdout=quiet, stderr=quiet
        ) as one,
    ):
        try:
            one.wait(_SECONDS_TO_JOIN)
        except subprocess.TimeoutExpired as error:
            raise ResourceError(
                f"cluster.address={address}: somebody listens there, and Ray was not joined within "
                f"{_SECONDS_TO_JOIN:g} seconds",
                hint=f"is it the port of `ray start --head`, and the cluster well? {_HINT}",
            ) from error
        finally:
            one.kill()


@contextmanager
def _stopped_at_once() -> Iterator[None]:
    """Nothing is in flight that could be committed first: SIGINT and SIGTERM end what waits in the block.

    Raises:
        Preempted: From there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        raise Preempted("stopped while Ray was joined; everything committed is kept")

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
