"""Layers that keep less for the backward pass: norms keep their input, gated MLPs the two halves of their product.

What follows from these by a few cheap operations is made again: two fifths of a Llama layer's activations. The numbers
are the model's own to rounding. A module is replaced, while the body runs, if its class computes word for word what
Llama's does; others stay as they are, and so do all for an input so small that calling Python functions would cost more
than what is kept is worth. Left out: whole layers made again (gradient checkpointing does it, and is not mixed with
this). Floor 3.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from transformers.activations import SiLUActivation
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

# Numbers in the hidden states of an input (tokens * hidden size) from which on layers are lean: 256 KB in float32, of
# which a Llama layer keeps some thirty.
LEAN_FROM = 2**16


@dataclass(frozen=True)
class _Parts:
    """Modules of a model that can be lean, each with its class's lean form and the layer it lies in, if it does."""

    lean: tuple[tuple[nn.Module, Callable[[Any, Tensor], Tensor], GradientCheckpointingLayer | None], ...]
    hidden_size: int


_PARTS: WeakKeyDictionary[nn.Module, _Parts] = WeakKeyDictionary()


@contextmanager
def lean_layers(model: Any, *, num_tokens: int) -> Iterator[None]:
    """Norms and gated MLPs of the model keep less while the block runs.

    Args:
        model: A causal language model. Its layers are left as they are where they are checkpointed, and all of it where
            it computes in float64, which its norms don't: there the numbers are held to the last digit.
        num_tokens: Tokens of the input, padding included; below `LEAN_FROM` numbers the model is left as it is too.
    """
    parts = _parts(model)
    if num_tokens * parts.hidden_size < LEAN_FROM:
        yield
        return
    lean = () if next(model.parameters()).dtype == torch.float64 else parts.lean
    replaced = [(part, form) for part, form, layer in lean if "forward" not in vars(part) and not _is_made_again(layer)]
    for part, form in replaced:
        vars(part)["forward"] = partial(form, part)
    try:
        yield
    finally:
        for part, _ in replaced:
            del vars(part)["forward"]


def _parts(model: Any) -> _Parts:
    if model not in _PARTS:
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        around = {part: layer for layer in layers for part in layer.modules()}
        lean = tuple((part, form, around.get(part)) for part in model.modules() if (form := _lean_form(part)))
        _PARTS[model] = _Parts(lean, model.config.get_text_config().hidden_size)
    return _PARTS[model]


def _is_made_again(layer: GradientCheckpointingLayer | None) -> bool:
    return layer is not None and layer.gradient_checkpointing and layer.training


def _lean_form(part: nn.Module) -> Callable[[Any, Tensor], Tensor] | None:
    """The lean form of what the module computes; None if it is something else."""
    if _computes(part, LlamaRMSNorm):
        return lean_norm
    is_mlp = _computes(part, LlamaMLP) and isinstance(getattr(part, "act_fn", None), SiLUActivation | nn.SiLU)
    return lean_mlp if is_mlp else None


def _computes(part: nn.Module, known: type[nn.Module]) -> bool:
    """Whether the module's forward is that of the class, word for word."""
    return isinstance(part, known) or _source(type(part).forward) == _source(known.forward)


@cache
def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # made while the program runs, or of C
        return repr(function)


def lean_norm(part: Any, hidden: Tensor) -> Tensor:
    """What a norm of Llama's kind computes, [..., size] -> [..., size]."""
    normed: Tensor = _RMSNorm.apply(hidden, part.weight, part.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


class _RMSNorm(torch.autograd.Function):
    """weight * (hidden / sqrt(mean(hidden^2) + eps)), the mean in float32 as Llama's."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden.to(torch.float32)
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(hidden, weight, scale)
        return weight * (wide * scale).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scale = ctx.saved_tensors
        normed = hidden.to(scale.dtype) * scale
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * normed.to(hidden.dtype)).flatten(0, -2).sum(0).to(weight.dtype)
        slope = (grad * weight).to(scale.dtype)
        along = (slope * normed).mean(-1, keepdim=True)
        of_hidden = slope.sub_(normed.mul_(along)).mul_(scale)
        return of_hidden.to(hidden.dtype), of_weight, None


def lean_mlp(part: Any, hidden: Tensor) -> Tensor:
    """What a gated MLP of Llama's kind computes, [..., size] -> [..., size]."""
    gate, up = part.gate_proj(hidden), part.up_proj(hidden)
    product: Tensor = _GatedProduct.apply(gate, up)  # type: ignore[no-untyped-call]
    out: Tensor
    with _made_again(product, gate.detach(), up.detach()) if product.requires_grad else nullcontext():
        out = part.down_proj(product)
    return out


class _GatedProduct(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _product(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        share = torch.sigmoid(gate)
        of_up = (gate * share).mul_(grad)
        # d silu(g) / dg = s + g s (1 - s), s = sigmoid(g)
        of_gate = torch.addcmul(share, share, (1 - share).mul_(gate)).mul_(grad).mul_(up)
        return of_gate, of_up


def _product(gate: Tensor, up: Tensor) -> Tensor:
    return nn.functional.silu(gate).mul_(up)


def _made_again(product: Tensor, gate: Tensor, up: Tensor) -> saved_tensors_hooks:
    """Whoever keeps the product in the block keeps what it is made of."""

    def pack(saved: Tensor) -> Tensor | torch.Size:
        is_plain = type(saved) is Tensor and saved.numel() == product.numel()
        return saved.shape if is_plain and saved.data_ptr() == product.data_ptr() else saved

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        return kept if isinstance(kept, Tensor) else _product(gate, up).view(kept)

    return saved_tensors_hooks(pack, unpack)
