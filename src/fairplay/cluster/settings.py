"""Settings of the cluster: whether Ray does the shards, where, and what workers are given.

Left out: what a shard is (`storage/shards.py`). Imports no torch and no Ray. Floor 3.
"""

from dataclasses import dataclass, fields

from fairplay.errors import ResourceError, SettingsError

LOCAL = "local"


@dataclass(frozen=True)
class ClusterSettings:
    """Who generates, ranks and judges: this process, or workers on one or many machines. They move no byte of a result.

    Attributes:
        address: Empty leaves everything to this process. `local` starts Ray on this machine for as long as the command
            runs; `auto`, or `HOST:PORT`, joins the cluster that `ray start` has made.
        num_workers: Workers side by side, each with a model of its own. 0 takes one for each GPU of the cluster (with
            vLLM for each `tensor_parallel_size` GPUs), and one where there are none.
        cpus_per_worker: Cores that Ray sets aside for a worker, and threads that it computes with.
        max_retries: How often a shard is begun anew after the process that did it died; then the command ends.
    """

    address: str = ""
    num_workers: int = 0
    cpus_per_worker: int = 1
    max_retries: int = 3

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 0), ("cpus_per_worker", 1), ("max_retries", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name}: must be at least {least}, is {getattr(self, name)}")
        if "://" in self.address:
            raise SettingsError(
                f"address: {self.address} is a client's address, from which shards can't be committed",
                hint="run the command on a machine of the cluster, with address=auto",
            )
        moved = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        if moved and not self.address:
            raise SettingsError(
                f"{moved[0]}: without an address everything is done in this process", hint="set address=local"
            )


@dataclass(frozen=True, slots=True)
class Place:
    """What a work is given on a cluster.

    Attributes:
        num_workers: Workers side by side.
        num_cpus, num_gpus: What is set aside for each.
    """

    num_workers: int
    num_cpus: int
    num_gpus: int


def place_of(settings: ClusterSettings, *, cpus: float, gpus: float, num_gpus: int, num_shards: int) -> Place:
    """The place of a work.

    Args:
        settings: How many workers are wanted.
        cpus, gpus: What the cluster has.
        num_gpus: What a worker of this work needs of GPUs, if there are any.
        num_shards: More workers than shards are not started.

    Raises:
        ResourceError: If the cluster is too small.
    """
    each = num_gpus if gpus else 0
    wanted = settings.num_workers or (max(1, int(gpus // each)) if each else 1)
    for name, number, has in (("CPU", settings.cpus_per_worker, cpus), ("GPU", each, gpus)):
        if wanted * number > has:
            raise ResourceError(
                f"cluster.num_workers: {wanted} with {number} {name} each, and the cluster has {has:g} {name}",
                hint="fewer workers, or a larger cluster",
            )
    return Place(min(wanted, num_shards), settings.cpus_per_worker, each)
