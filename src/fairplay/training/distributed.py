"""Several processes in one training: the only file that knows ranks. Weights are sharded by torch's FSDP2.

Every rank plans the whole step and computes its share; sums, counts and an objective's statistics are the whole step's,
so the result does not depend on the number of ranks beyond rounding. Alone, nothing here does anything. Left out: which
share is whose (`plan.py`), how processes find each other (`crew.py`). Floor 5.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, Parameter
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fairplay.errors import FairplayError, SettingsError
from fairplay.models.layouts import Row
from fairplay.models.loading import Policy
from fairplay.models.quantised import is_quantised_weight
from fairplay.models.token_logps import RowScores, score_rows
from fairplay.training.settings import TrainingSettings


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs; the others compute."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, the same on each; the values themselves stay as they are."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def any(self, claim: bool) -> bool:
        """Whether the claim holds on some rank."""
        return claim if self.size == 1 else bool(self.sum(torch.tensor(int(claim))))

    def gather(self, own: Tensor) -> tuple[Tensor, int]:
        """Every rank's values one behind the other along the last dimension, and where one's own begin.

        Args:
            own: This rank's values; their sizes may differ in the last dimension.
        """
        if self.size == 1:
            return own, 0
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([own.shape[-1]]))
        sizes = [int(length) for length in lengths]
        padded = torch.nn.functional.pad(own.detach(), (0, max(sizes) - own.shape[-1])).contiguous()
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        values = torch.cat([part[..., :size] for part, size in zip(every, sizes, strict=True)], dim=-1)
        return values, sum(sizes[: self.rank])

    def gather_objects(self, own: object) -> list[Any]:
        """Every rank's object, in the order of the ranks."""
        every: list[Any] = [own]
        if self.size > 1:
            every *= self.size
            dist.all_gather_object(every, own)
        return every

    @contextmanager
    def same_fate(self) -> Iterator[None]:
        """An error of one rank in the block is raised on all; every rank enters the block at the same time.

        Raises:
            FairplayError: The first rank's that has one.
        """
        error = None
        try:
            yield
        except FairplayError as raised:
            error = raised
        found = [e for e in self.gather_objects(error) if e is not None]
        if found:
            raise error or found[0]

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks(0, 1)
_CALL = "call_with_whole_weights"  # the name of a sharded model's method
# Those that step each number by itself.
SHARDED_OPTIMIZERS = ("adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd")


def current_ranks() -> Ranks:
    """This process's place in the process group; alone where there is none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return ALONE


def of_all_ranks(settings: TrainingSettings, num_ranks: int) -> TrainingSettings:
    """The settings as a single process would have them: its steps accumulate the micro-batches of all ranks.

    What identifies a training is this, so it may go on with another number of ranks if the product stays.
    """
    return replace(settings, gradient_accumulation_steps=settings.gradient_accumulation_steps * num_ranks)


def check_ranks(settings: TrainingSettings, ranks: Ranks) -> None:
    """Refuse settings that do not go with several processes, or with so many.

    Raises:
        SettingsError: If the optimiser needs whole weights, or copies of the weights can't be spread evenly.
    """
    if ranks.size == 1:
        return
    if settings.optim not in SHARDED_OPTIMIZERS:
        raise SettingsError(
            f"training.optim: `{settings.optim}` needs whole weights, and {ranks.size} processes hold parts of them",
            hint=f"take one of {', '.join(SHARDED_OPTIMIZERS)}, or train in a single process",
        )
    if ranks.size % settings.dp_replicate_size:
        raise SettingsError(
            f"training.dp_replicate_size: {ranks.size} processes can't hold {settings.dp_replicate_size} copies evenly",
            hint="take a divisor of the number of processes: the number of machines",
        )


def is_shardable(tensor: Tensor) -> bool:
    """Whether a tensor of the model is spread over the ranks: parameters are, unless they are codes of 4 bits."""
    return isinstance(tensor, Parameter) and not is_quantised_weight(tensor)


def shard(model: PreTrainedModel, ranks: Ranks, *, copies: int = 1) -> None:
    """Spread the weights over the ranks in place, a group of its own for each layer; gradients are summed.

    Weights of 4 bits don't learn and can't be cut; every rank keeps them whole.

    Args:
        model: The same on every rank, with adapters if it trains any; afterwards only `score` may run it.
        ranks: Who trains together; nothing happens to a model that is trained alone.
        copies: Groups of neighbouring ranks that each hold all of the weights; layers are gathered within a group only,
            and gradients are summed over all.
    """
    if ranks.size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    sizes = {"replicate": copies, "shard": ranks.size // copies} if copies > 1 else {"shard": ranks.size}
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
    everywhere = {parameter for parameter in model.parameters() if not is_shardable(parameter)}
    for module in list(model.modules()):
        if isinstance(module, GradientCheckpointingLayer):
            fully_shard(module, mesh=mesh, ignored_params=everywhere)
    fully_shard(model, mesh=mesh, ignored_params=everywhere)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are shares of the whole step's already, so that the mean over ranks would be too small.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    # Scoring calls the body and the head by themselves; FSDP gathers their weights around calls that it knows of.
    sharded: Any = model
    setattr(sharded, _CALL, MethodType(lambda self, function: function(), model))
    register_fsdp_forward_method(model, _CALL)


def score(model: PreTrainedModel, rows: Sequence[Row], **options: Any) -> RowScores:
    """`score_rows` of a model that may be sharded; then every rank calls it equally often."""
    if not is_sharded(model):
        return score_rows(model, rows, **options)
    sharded: Any = model
    scores = RowScores(*getattr(sharded, _CALL)(partial(_score_as_tuple, model, rows, options)))
    if not torch.is_grad_enabled():
        sharded.reshard()  # a backward would; until then the model's parameters are not the sharded ones
    return scores


def _score_as_tuple(model: PreTrainedModel, rows: Sequence[Row], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """A structure in which FSDP finds the tensors that carry the gradient; copies, since it can't watch over views."""
    scores = score_rows(model, rows, **options)
    statistics = {name: values.clone() for name, values in scores.statistics.items()}
    return scores.logps.clone(), scores.response_index, scores.position, statistics


def is_sharded(model: Module) -> bool:
    """Whether `shard` has spread the model's weights."""
    return _CALL in vars(model)


def sync_gradients(model: Module, *, is_last: bool) -> None:
    """Whether the next backward sums gradients over the ranks: only a step's last one needs to."""
    sharded: Any = model
    if is_sharded(model):
        sharded.set_requires_gradient_sync(is_last)


def unsharded(policy: Policy, build: Callable[[], Policy]) -> Policy:
    """The policy with whole weights, to be saved; every rank asks for it, and only the first one's is whole.

    Args:
        policy: The trained policy; one that is not sharded is handed back.
        build: Makes a policy of the same shape.
    """
    if not is_sharded(policy.model):
        return policy
    is_first = current_ranks().is_first
    weights = whole_tensors({name: p.detach() for name, p in policy.model.named_parameters()}, keep=is_first)
    if not is_first:
        return policy
    fresh = build()
    with torch.no_grad():
        for name, parameter in fresh.model.named_parameters():
            parameter.copy_(weights[name])
    return fresh


def is_part(tensor: Tensor) -> bool:
    """Whether the tensor is this rank's part of a sharded one."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every rank, which all must ask for; another tensor as it is."""
    sharded: Any = tensor
    if not is_part(tensor):
        return tensor
    if tensor.dtype is torch.int16:  # gloo sends none
        return whole(tensor.to(torch.int32)).to(torch.int16)
    full: Tensor = sharded.full_tensor()
    return full


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole of each tensor by name, one after the other; every rank asks, and those that keep none let go at once.

    Args:
        tensors: Sharded or not; detached, in the same order on every rank.
        keep: Whether this rank gets them; sharded ones go to the CPU, where all of them have room.
    """
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor).contiguous()
        if keep:
            found[name] = full.cpu() if is_part(tensor) else full
    return found


def own_part(tensor: Tensor) -> Tensor:
    """The numbers of a sharded tensor that lie in this process, sharing its memory; another tensor as it is."""
    sharded: Any = tensor
    own: Tensor = sharded.to_local() if is_part(tensor) else tensor
    return own


def part_made_of(own: Tensor, *, like: Tensor) -> Tensor:
    """The sharded tensor of which these numbers are this rank's part, in the shape of `like`."""
    if not is_part(like):
        return own
    from torch.distributed.tensor import DTensor

    sharded: Any = like
    mesh, placements = sharded.device_mesh, sharded.placements
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def rows_of_part(tensor: Tensor) -> tuple[int, int]:
    """The rows (first, end) of a sharded tensor that lie in this process."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sharded: Any = tensor
    mesh, placements = sharded.device_mesh, sharded.placements
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    return offset[0], offset[0] + shape[0]


def is_copy(tensor: Tensor) -> bool:
    """Whether a process before this one has the same part of a sharded tensor."""
    sharded: Any = tensor
    place = sharded.device_mesh.get_coordinate()
    return any(where and kind.is_replicate() for where, kind in zip(place, sharded.placements, strict=True))
