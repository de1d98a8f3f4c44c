"""Ray itself: started or joined, asked for room, given a dataset; and what it raises in words of ours.

Left out: shards (`ray_executor.py`); waiting for a Ray of others (`joining.py`). Importing this module does not import
Ray. Floor 3.
"""

import logging
import os
import secrets
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from fairplay.cluster.joining import refuse_dead_address, refuse_silent_address
from fairplay.cluster.settings import LOCAL, ClusterSettings, Place, place_of
from fairplay.errors import FairplayError, ResourceError

logger = logging.getLogger(__name__)
# Read by Ray when it is imported: nothing is sent anywhere, a worker without GPUs keeps the variables it inherits, and
# what Ray's core has to say of workers goes to no stream of this process: stdout is for results, and we say it.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# Ray of one command talks over loopback alone (this is how it does so on other systems by default), to those who know
# a word that is drawn for it; its workers have the priority of this process (Ray's own default is 15).
_LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
}
_LOCAL_WORD = "RAY_AUTH_TOKEN"
_SECONDS_TO_START = 900  # in which all workers of a work must have started, python and its packages


class RaySession:
    """This process as Ray's driver, from its first work until it is closed.

    Args:
        settings: Which Ray, how many workers, what each takes.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._is_open = False

    def close(self) -> None:
        """Leave, and stop what `local` started; actors of this command end."""
        if self._is_open:
            import ray

            self._is_open = False
            ray.shutdown()

    def place(self, num_gpus: int, num_shards: int) -> Place:
        """Room for a work of so many shards, whose workers need so many GPUs each if there are any.

        Raises:
            ResourceError: If Ray can't be started or joined, or the cluster is too small for the workers.
        """
        self._open()
        import ray

        has = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return place_of(
            self.settings, cpus=has.get("CPU", 0.0), gpus=has.get("GPU", 0.0), num_gpus=num_gpus, num_shards=num_shards
        )

    def map(
        self, table: pa.Table, actor: type, arguments: Mapping[str, Any], place: Place, *, queued: int
    ) -> Generator[dict[str, Any], None, None]:
        """Give every row of a table to one of the actors, and yield the rows that they return, in any order.

        Args:
            table: The rows.
            actor: Called with a table of one row, in the actor's process; its result is a table too.
            arguments: To make it.
            place: How many of them.
            queued: Rows that are sent to an actor at once.

        Raises:
            ResourceError: If Ray gives up, or actors don't start.
        """
        import ray.data

        ray.data.DataContext.get_current().wait_for_min_actors_s = _SECONDS_TO_START
        with told_by_ray():
            # not `from_arrow`, which starts a process of Ray's that looks at every table before an actor is started
            rows = ray.data.from_blocks([table.slice(number, 1) for number in range(len(table))])
            mapped = rows.map_batches(
                actor,
                fn_constructor_kwargs=dict(arguments),
                compute=ray.data.ActorPoolStrategy(
                    size=place.num_workers, max_tasks_in_flight_per_actor=queued, max_concurrent_calls_per_actor=1
                ),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=place.num_cpus,
                num_gpus=place.num_gpus,
            )
            for batch in mapped.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                assert isinstance(batch, pa.Table)
                yield from batch.to_pylist()

    def _open(self) -> None:
        if self._is_open:
            return
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        settings = self.settings
        options: dict[str, Any] = {"address": settings.address}
        if settings.address == LOCAL:
            cores = max(os.cpu_count() or 1, settings.num_workers * settings.cpus_per_worker)
            options |= {"num_cpus": cores, "include_dashboard": False}
            os.environ.update({**_LOCAL_ENVIRONMENT, _LOCAL_WORD: secrets.token_hex(32)})
        with told_by_ray(), _own_signals():
            import ray
            import ray.data

            if settings.address != LOCAL:
                refuse_dead_address(settings.address)
                refuse_silent_address(settings.address)
            with _stderr_closed():
                ray.init(**options, log_to_driver=False, configure_logging=True, logging_level=logging.ERROR)
        self._is_open = True
        _be_quiet()
        logger.info("ray %s: %s", ray.__version__, settings.address)


def _be_quiet() -> None:
    """No bars and no messages of Ray Data: there are our own."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard may take hours
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Nothing on stderr: Ray's core says there which log level it was given; what matters it raises."""
    before = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the handlers of SIGINT and SIGTERM that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_by_ray() -> Iterator[None]:
    """What Ray raises, as an error of ours; ours go through.

    Raises:
        ResourceError: If it can't be imported, started, joined, or gives up.
    """
    try:
        yield
    except FairplayError:
        raise
    except ImportError as error:
        raise ResourceError(f"ray can't be imported ({error})", hint="pip install 'fairplay[ray]'") from error
    except _ray_error("GetTimeoutError") as error:
        raise ResourceError(
            f"Ray's workers did not all start within {_SECONDS_TO_START} seconds",
            hint="are the cluster's CPUs and GPUs free (`ray status`), and does python start on every machine? how a "
            "worker ended is in the logs of Ray's session folder; fewer workers (cluster.num_workers) ask for less",
        ) from error
    except (ConnectionError, ValueError, RuntimeError, OSError, _ray_error("RayError")) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ResourceError(
            f"Ray gave up: {line}",
            hint="is a cluster running here (`ray status`), with fairplay on every machine, and RAY_AUTH_MODE=token "
            "set if it wants one? more is in the logs of Ray's session folder; cluster.address=local needs no cluster",
        ) from error


def _ray_error(name: str) -> type[Exception]:
    import ray.exceptions

    error: type[Exception] = getattr(ray.exceptions, name)
    return error
