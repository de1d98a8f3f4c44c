"""Memory of a training: what it should take, told before the first step, and beside it what it took.

What is kept for the backward pass is not reckoned from a list of architectures: three short rows run through the model
itself, and what autograd saves is counted. Left out: what memory there is (`room.py`), the process itself, a second
pass's tensors (anchor rows, divergences), and what allocators lose between blocks. Floor 5.

What a trained weight takes, in bytes: 4 in bfloat16 or 8 in float32 with its gradient; 8, 2 (8 bits) or 1 (4 bits) for
Adam's states, 4 for RMSprop's; 2 for the lower half of a bfloat16 weight. 8 billion with AdamW of 8 bits: 60 GiB.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import Module
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fairplay.models.body import causal_model, hidden_states
from fairplay.models.encoding import EncodedExample
from fairplay.models.head import KEPT_BYTES
from fairplay.models.layouts import RowLayout, group_tokens, lay_rows
from fairplay.models.quantised import largest_whole, state_bytes
from fairplay.training.batches import example_rows
from fairplay.training.distributed import is_shardable
from fairplay.training.plan import Division, StepPlan
from fairplay.training.reading import TILE, autocast
from fairplay.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

GIB = 2**30
_PROBED = 16  # tokens of the shortest of three probed rows


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training should take at its peak.

    Attributes:
        weights: Parameters and buffers of the policy, and of a reference that stays in memory.
        gathered: Of a sharded policy, what is whole while it is used: two layers and all that lies around them, with
            the gradients that are about to be summed over the processes.
        gradients: Of what is trained; all of them are there while the second micro-batch of a step is computed. Those
            of a sharded policy stay whole until the step's last micro-batch, where there are several.
        optimizer: Its states, and the lower halves of weights in bfloat16.
        activations: Kept by the model's body for the backward pass of the largest micro-batch, and one layer's work.
        head: Logits held at a time, and the gradient of the head's weight.
        update: Scratch of the optimiser's step; by then activations are gone.
    """

    weights: int
    gathered: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    update: int

    @property
    def peak(self) -> int:
        """All that is there at once."""
        in_a_pass = self.gathered + self.activations + self.head
        return self.weights + self.gradients + self.optimizer + max(in_a_pass, self.update)


def _blocks(count: int, size: int, *, bits: int, block: int) -> int:
    """Both of Adam's states where torchao keeps them in blocks: codes, a scale a block, the table of code values."""
    if count < 4096 or count % block:
        return 2 * count * size
    return 2 * (count * bits // 8 + 4 * count // block + 4 * (1 << bits))


# Of one parameter: its elements, the bytes of one in its state, and its shape.
STATE_BYTES: Mapping[str, Callable[[int, int, Sequence[int]], int]] = {
    "adafactor": lambda n, size, shape: size * (n // shape[-1] + n // shape[-2] if len(shape) > 1 else n),
    "adagrad": lambda n, size, shape: n * size,
    "adamw_torch": lambda n, size, shape: 2 * n * size,
    "adamw_torch_4bit": lambda n, size, shape: _blocks(n, size, bits=4, block=128),
    "adamw_torch_8bit": lambda n, size, shape: _blocks(n, size, bits=8, block=256),
    "adamw_torch_fused": lambda n, size, shape: 2 * n * size,
    "rmsprop": lambda n, size, shape: n * size,
    "sgd": lambda n, size, shape: 0,
}

# Of one parameter in float32: how many copies of it its step makes. torchao's step, compiled on a GPU, makes none.
SCRATCH_COPIES: Mapping[str, int] = {
    "adafactor": 1,
    "adagrad": 1,
    "adamw_torch": 2,
    "adamw_torch_4bit": 13,
    "adamw_torch_8bit": 13,
    "adamw_torch_fused": 0,
    "rmsprop": 1,
    "sgd": 0,
}


def optimizer_bytes(parameters: Sequence[Tensor], optim: str) -> int:
    """Bytes that an optimiser keeps from step to step, a few counters aside.

    Args:
        parameters: What is trained.
        optim: Name of the optimiser.
    """
    state = STATE_BYTES[optim]
    lower = sum(2 * p.numel() for p in parameters if p.dtype is torch.bfloat16)
    return lower + sum(state(p.numel(), max(4, p.element_size()), p.shape) for p in parameters)


def estimate_memory(
    model: PreTrainedModel,
    settings: TrainingSettings,
    examples: Sequence[EncodedExample],
    *,
    layout: str,
    reference: Module | None = None,
    num_ranks: int = 1,
    accumulates: bool = True,
) -> MemoryEstimate:
    """What a training should take at its peak, in each process.

    Args:
        model: The policy, ready to learn: adapters added, recomputation on; not sharded yet.
        settings: How it is trained.
        examples: The largest micro-batch, see `largest_micro_batch`.
        layout: How its rows lie in the model's input, a name in `models.layouts.LAYOUTS`.
        reference: A second model that stays in memory, in every process.
        num_ranks: Processes that hold a part each of the policy, its gradients and its optimiser's state.
        accumulates: Whether some step has several micro-batches in a process.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    laid = lay_rows(example_rows(examples), layout, prompt_tokens=settings.prompt_loss_weight > 0)
    of_reference = sum(map(_bytes, _tensors(reference))) if reference is not None else 0
    everywhere = [tensor for tensor in _tensors(model) if num_ranks == 1 or not is_shardable(tensor)]
    whole = sum(map(_bytes, everywhere))
    return MemoryEstimate(
        weights=whole + (sum(map(_bytes, _tensors(model))) - whole) // num_ranks + of_reference,
        gathered=_gathered(model) if num_ranks > 1 else 0,
        gradients=sum(p.nbytes for p in trained) // (1 if accumulates else num_ranks),
        optimizer=optimizer_bytes(trained, settings.optim) // num_ranks,
        activations=_activations(model, laid, bf16=settings.bf16),
        head=_head(model, len(laid.target), bf16=settings.bf16),
        update=scratch_bytes(trained, settings.optim) // num_ranks,
    )


def largest_micro_batch(
    plan: StepPlan, division: Division, examples: Sequence[EncodedExample], *, layout: str
) -> tuple[list[EncodedExample], int]:
    """The examples of the first pass's micro-batch, of any rank, of which the model reads the most tokens.

    Returns:
        These examples, and how many micro-batches a rank has in a step, at most.
    """
    steps = [step for _, step in plan.steps(0, min(plan.per_epoch, plan.num_steps))]
    shares = [share for step in steps for share in division.shares(step)]
    batches = [batch for share in shares for batch in share if batch]
    largest = max(batches, key=lambda batch: _num_tokens([examples[index] for index in batch], layout))
    return [examples[index] for index in largest], max(map(len, shares))


def _num_tokens(examples: Sequence[EncodedExample], layout: str) -> int:
    rows = [len(prompt) + len(response) for prompt, response in example_rows(examples)]
    if layout == "padded":
        return len(rows) * max(rows)
    return sum(group_tokens(layout, len(e.prompt_ids), [len(r) for r in e.response_ids]) for e in examples)


def _tensors(model: Module) -> list[Tensor]:
    """Parameters and buffers, shared ones once."""
    return [*model.parameters(), *model.buffers()]


def _bytes(tensor: Tensor) -> int:
    return tensor.nbytes + state_bytes(tensor)


def _gathered(model: Module) -> int:
    """What lies around the layers and two of them as they are used, one more as it is sent, their gradients."""
    layers = [_shardable(module) for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    inside = {id(parameter) for layer in layers for parameter in layer}
    around = [parameter for parameter in _shardable(model) if id(parameter) not in inside]
    largest = max(layers, key=_sum_bytes, default=[])
    learning = [parameter for parameter in (*around, *largest) if parameter.requires_grad]
    sent = max(_sum_bytes(around), _sum_bytes(largest))
    return _sum_bytes([*around, *largest, *largest, *learning]) + sent


def _shardable(module: Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if is_shardable(parameter)]


def _sum_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _activations(model: PreTrainedModel, laid: RowLayout, *, bf16: bool) -> int:
    """Bytes kept for the backward pass of an input, and the work of one layer.

    Saved bytes of one row are a polynomial of its length: a constant (weights cast by autocast), a part that grows with
    tokens, and one with their square (attention that keeps its probabilities). Three lengths tell its coefficients.
    """
    layers = [module for module in model.modules() if module.training]
    num_layers: int = model.config.get_text_config().num_hidden_layers
    num_rows, length = laid.input_ids.shape
    num_squares = num_rows * length**2 if laid.segments is None else 0  # attention in segments keeps none
    step = max(1, min(_PROBED, length // 3))
    lengths = np.array([step, 2 * step, 3 * step])

    def all_rows() -> float:
        saved = [_saved_bytes(model, int(tokens), num_tokens=laid.input_ids.numel(), bf16=bf16) for tokens in lengths]
        constant, linear, square = np.linalg.solve(np.vander(lengths, 3, increasing=True).astype(float), saved)
        return float(constant + linear * num_rows * length + square * num_squares)

    kept = all_rows()
    for module in layers:  # nothing is computed again, nothing drawn
        module.training = False
    whole = all_rows()
    for module in layers:
        module.training = True
    return max(0, int(kept + whole / num_layers)) + largest_whole(model)


def _saved_bytes(model: PreTrainedModel, length: int, *, num_tokens: int, bf16: bool) -> int:
    """Bytes that autograd keeps of one row of an input of so many tokens, weights not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model)}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = int(storage.nbytes())
        return tensor

    row = ([1] * (length - 1), [1]) if length > 1 else ([1], [1])
    with torch.random.fork_rng(), torch.enable_grad(), autocast(model, bf16=bf16):
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = hidden_states(model, lay_rows([row], "padded"), stands_for=num_tokens)
        del hidden
    return sum(found.values())


def _head(model: PreTrainedModel, num_scored: int, *, bf16: bool) -> int:
    head: Any = causal_model(model).get_output_embeddings()
    weight: Tensor = head.weight
    itemsize = 2 if bf16 else weight.element_size()
    logits = num_scored * weight.shape[0] * itemsize
    held = logits if logits <= KEPT_BYTES else min(num_scored, TILE) * weight.shape[0] * itemsize
    of_weight = weight.numel() * (4 + itemsize) if weight.requires_grad else 0
    return held + 2 * num_scored * weight.shape[1] * itemsize + of_weight


def scratch_bytes(trained: Sequence[Tensor], optim: str) -> int:
    """Bytes that an optimiser's step takes and gives back: of one parameter, or of all where torch steps them together.

    Args:
        trained: What is trained.
        optim: Name of the optimiser.
    """
    together = {"adamw_torch", "adagrad", "rmsprop", "sgd"}
    halves = any(p.dtype is torch.bfloat16 for p in trained)
    if optim in together and trained[0].is_cuda and not halves:
        return sum(p.nbytes for p in trained)
    copies = 0 if trained[0].is_cuda and optim.startswith("adamw_torch_") else SCRATCH_COPIES[optim]
    # A weight in bfloat16 is joined to float32 for its step, and so is its gradient.
    return max(
        p.numel() * (4 * (copies + 2) if p.dtype is torch.bfloat16 else p.element_size() * copies) for p in trained
    )


def log_estimate(estimate: MemoryEstimate) -> None:
    """Tell the estimate part by part."""
    parts = ", ".join(f"{name} {value / GIB:.3g}" for name, value in asdict(estimate).items())
    logger.info("memory should peak at %.3g GiB: %s", estimate.peak / GIB, parts)


def memory_report(estimate: MemoryEstimate, measured: int | None) -> dict[str, Any]:
    """Estimate and measurement as plain data, in bytes; `measured` is None where this system does not tell."""
    if measured is not None:
        logger.info("memory peaked at %.3g GiB, estimated %.3g GiB", measured / GIB, estimate.peak / GIB)
    return {**asdict(estimate), "peak": estimate.peak, "measured": measured}
