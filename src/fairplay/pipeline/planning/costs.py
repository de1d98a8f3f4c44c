"""Arithmetic of what a stage costs: floating-point operations, bytes and, on stated hardware, seconds.

Every constant is stated here; nothing is fitted. Left out: how much work a run has (`work.py`), and what this machine
really does (`calibration.py`). Floor 7; pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fairplay.pipeline.planning.shapes import ModelShape

HALF = 2
"""Bytes of a number in bfloat16, in which models are assumed to be held and sent."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator, and the machine around it.

    Attributes:
        flops: Dense bfloat16 operations a second.
        bandwidth: Bytes a second from its memory.
        memory: Bytes of it.
        link: Bytes a second and direction to the others in its machine.
        network: Bytes a second and direction to another machine.
        per_machine: Accelerators in one machine.
    """

    flops: float
    bandwidth: float
    memory: float
    link: float
    network: float
    per_machine: int = 8


HARDWARE: Mapping[str, Hardware] = {
    "a100": Hardware(312e12, 2.0e12, 80e9, 300e9, 25e9),
    "h100": Hardware(989e12, 3.35e12, 80e9, 450e9, 50e9),
    "h200": Hardware(989e12, 4.8e12, 141e9, 450e9, 50e9),
}
"""Peak numbers of the vendor's data sheets (SXM); networks of 200 and 400 Gbit/s an accelerator."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the peak that are assumed to be reached.

    Attributes:
        training: Of the arithmetic peak, in training; published figures of 7B to 8B models are 0.33 to 0.46.
        scoring: The same in forward passes over many long rows.
        ranking: The same for an encoder without a fused attention (DeBERTa).
        decoding: Of the memory-bound rate of drawing tokens.
    """

    training: float = 0.40
    scoring: float = 0.45
    ranking: float = 0.25
    decoding: float = 0.65


DECODED_TOGETHER = 256
"""Rows that an engine draws tokens for at once, if its memory holds their keys and values."""


def forward_flops(shape: ModelShape, tokens: float, *, scored: float, mean_context: float) -> float:
    """Operations of a forward pass.

    Args:
        shape: The model.
        tokens: Tokens read.
        scored: Tokens whose log-probs are taken.
        mean_context: Tokens that one token attends to, on average.
    """
    attention = 4 * shape.query * mean_context * shape.layers
    return tokens * (2 * shape.body + attention) + 2 * shape.head * scored


def training_flops(shape: ModelShape, tokens: float, *, scored: float, mean_context: float, again: float) -> float:
    """Operations of forward and backward pass; `again` is the share of layers computed again for the backward pass."""
    once = forward_flops(shape, tokens, scored=scored, mean_context=mean_context)
    body = forward_flops(shape, tokens, scored=0, mean_context=mean_context)
    return 3 * once + again * body


def decode_seconds(
    shape: ModelShape, hardware: Hardware, *, rows: float, prompt: float, response: float, efficiency: Efficiency
) -> float:
    """Seconds in which one accelerator draws `response` tokens for each of `rows` rows.

    Each step reads all weights and every row's keys and values; it computes too. The slower of the two counts.
    """
    cache = 2 * HALF * shape.layers * shape.key_value * (prompt + response / 2)
    room = max(hardware.memory * 0.9 - HALF * shape.parameters, cache)
    together = max(1.0, min(rows, DECODED_TOGETHER, room // cache))
    reading = (HALF * shape.parameters + together * cache) / hardware.bandwidth
    computing = forward_flops(shape, together, scored=together, mean_context=prompt + response / 2) / hardware.flops
    return rows / together * response * max(reading, computing) / efficiency.decoding


def sharding_seconds(shape: ModelShape, hardware: Hardware, *, devices: int) -> float:
    """Seconds of traffic of one optimiser step whose weights are sharded over one machine and copied across machines.

    Within a machine weights are gathered for both passes and gradients scattered once; across machines each
    accelerator's part of the gradients is summed up (a ring: twice its size).
    """
    inside = min(devices, hardware.per_machine)
    size = HALF * shape.parameters
    within = 3 * size * (inside - 1) / inside / hardware.link
    machines = -(-devices // hardware.per_machine)
    across = 2 * (size / inside) * (machines - 1) / machines / hardware.network
    return within + across


OPTIMIZER_BYTES: Mapping[str, float] = {
    "adafactor": 0.1,
    "adagrad": 4,
    "adamw_torch": 8,
    "adamw_torch_4bit": 1.1,
    "adamw_torch_8bit": 2.1,
    "adamw_torch_fused": 8,
    "rmsprop": 4,
    "sgd": 0,
}
"""Bytes of an optimiser's states for one parameter."""


def training_bytes(
    shape: ModelShape, *, dtype_bytes: int, trained: float, optim: str, tokens: float, again: float, shards: int
) -> float:
    """Bytes that training should take on each accelerator at its peak.

    Args:
        shape: The policy.
        dtype_bytes: Of one weight: 4, or 2 with a lower half of 2 more where it is trained.
        trained: Parameters that learn.
        optim: Name of the optimiser.
        tokens: Tokens of a micro-batch.
        again: Share of the layers that are computed again for the backward pass.
        shards: Accelerators that hold a part of the model each.
    """
    states = OPTIMIZER_BYTES[optim] + (2 if dtype_bytes == HALF else 0)
    model = shape.parameters * dtype_bytes + trained * (dtype_bytes + states)
    whole = 22 * shape.hidden + 8 * shape.intermediate  # bytes a token and layer
    kept = again * 2 * shape.hidden + (1 - again) * whole
    return model / shards + tokens * shape.layers * kept + 4 * shape.head / shards
