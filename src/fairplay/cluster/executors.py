"""Where shards are done, as the settings say: in this process, or by Ray.

Left out: both. Imports no Ray before it is needed. Floor 3.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from fairplay.cluster.settings import ClusterSettings
from fairplay.errors import ResourceError
from fairplay.storage.shards import HERE, Executor


@contextmanager
def open_executor(settings: ClusterSettings, account: Path | None = None) -> Iterator[Executor]:
    """The executor while the block runs; Ray is started, or joined, when the first shard is to be done.

    Args:
        settings: Who does the shards.
        account: The file to which every work that Ray did adds a line: workers, deaths, seconds.

    Raises:
        ResourceError: If Ray is asked for and not installed.
    """
    if not settings.address:
        yield HERE
        return
    if find_spec("ray") is None:
        raise ResourceError(
            f"cluster.address: `{settings.address}` needs the package ray", hint="pip install 'fairplay[ray]'"
        )
    from fairplay.cluster.ray_executor import RayExecutor

    executor = RayExecutor(settings, account)
    try:
        yield executor
    finally:
        executor.close()
