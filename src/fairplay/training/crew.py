"""Processes started together: the first one runs the command, the others wait and join in where it trains.

So locks, files and messages are the first one's, and only a training takes all of them. A process that fails ends the
training on all: the others lose their connection to it, and none waits for ever. Left out: the training (`loop.py`),
what ranks do in it (`distributed.py`). Floor 5.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from fairplay import progress
from fairplay.errors import FairplayError, ResourceError
from fairplay.training.distributed import current_ranks

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Generating and ranking may take the first process hours, in which the others wait for their next task.
LONGEST_WAIT = timedelta(days=30)


@dataclass
class _Orders:
    """How the first process tells the others what to do."""

    group: Any = None
    is_in_task: bool = False

    def tell(self, order: object) -> None:
        dist.broadcast_object_list([order], src=0, group=self.group, device=torch.device("cpu"))

    def hear(self) -> Any:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, src=0, group=self.group, device=torch.device("cpu"))
        return told[0]


_orders = _Orders()


def run_together(command: Callable[[], int]) -> int:
    """Run a command in the first process, while the others wait for what it calls by `on_all_ranks`.

    Args:
        command: Gives an exit code.

    Returns:
        The exit code of this process; the others end with the first one's, or with that of their own error.

    Raises:
        ResourceError: If there are fewer GPUs than processes on this machine.
    """
    _join()
    if not current_ranks().is_first:
        return _serve()
    try:
        code = command()
    except BaseException:
        with suppress(dist.DistError, RuntimeError):  # what stopped the command is the news, not who is gone besides
            _dismiss(1)
        raise
    with _others_are_needed():
        _dismiss(code)
    return code


def on_all_ranks(task: Callable[..., Result], arguments: Mapping[str, Any], *, own: Mapping[str, Any]) -> Result:
    """Call a function in every process at once, with the same arguments.

    Args:
        task: A function that can be imported; in a process on its own it is simply called.
        arguments: What all get.
        own: Further arguments for this process alone.

    Raises:
        ResourceError: If another process failed; its own message says why.
    """
    if current_ranks().size == 1:
        return task(**arguments, **own)
    _orders.is_in_task = True
    with _others_are_needed():
        _orders.tell((task, dict(arguments)))
        result = task(**arguments, **own)
    _orders.is_in_task = False
    return result


@contextmanager
def _others_are_needed() -> Iterator[None]:
    """A connection that is lost, as an error that says so."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, FairplayError) or not _is_lost_connection(error):
            raise
        raise ResourceError(
            "another process of this training failed", hint="its message says why; run the same command again to resume"
        ) from error


def _dismiss(code: int) -> None:
    """Tell the others with which exit code to end, unless they are in the middle of a task."""
    if not _orders.is_in_task:
        _orders.tell(code)
        dist.destroy_process_group()


def _join() -> None:
    backend = "gloo"
    if torch.cuda.is_available():
        local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if here > torch.cuda.device_count():
            raise ResourceError(
                f"{here} processes on {torch.cuda.device_count()} GPUs",
                hint="set --nproc-per-node to the number of GPUs",
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend)
    _orders.group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)


def _serve() -> int:
    """Do what the first process says until it says with which code to end."""
    logging.disable(logging.WARNING)
    progress.hide_bars()
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process hears them, and all stop after the same step
        signal.signal(number, signal.SIG_IGN)
    try:
        while not isinstance(order := _orders.hear(), int):
            task, arguments = order
            task(**arguments)
    except FairplayError as error:
        logger.error("rank %d: %s: %s", current_ranks().rank, type(error).__name__, error)
        return error.exit_code
    except (dist.DistError, RuntimeError) as error:
        if not _is_lost_connection(error):
            raise
        return ResourceError.exit_code
    dist.destroy_process_group()
    return order


def _is_lost_connection(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
