"""Attention within the segments of a packed input: what `NAME` stands for among transformers' attention functions.

No mask is ever made: transformers builds none for a name that its table of masks does not have, and whatever these
functions can't do exactly they refuse, so that a caller falls back (`probe.py`). On a CPU the segments are computed one
by one and merged here; on a GPU `varlen.py` makes one call of FlashAttention. Left out: when the name is switched on
(`body.py`). Floor 3.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from fairplay.models.layouts import Segments
from fairplay.models.varlen import Unsupported, VarlenRuns, varlen_attention, varlen_runs

NAME = "fairplay_segments"

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# What the attention function of each kind of device reads, made once for all layers of a forward pass.
PREPARE: Mapping[str, Callable[[Segments, torch.device], Segments | VarlenRuns]] = {
    "cpu": lambda segments, device: segments,
    "cuda": varlen_runs,
}


def prepare(segments: Segments, device: torch.device) -> Segments | VarlenRuns:
    """The segments as the attention function of this device reads them.

    Raises:
        Unsupported: If there is none for such a device.
    """
    if device.type not in PREPARE:
        raise Unsupported(f"there is no attention within segments for {device.type}")
    return PREPARE[device.type](segments, device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    segments: Segments | VarlenRuns | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within segments, in the shape in which transformers calls it.

    Args:
        module: The attention layer.
        query: [1, heads, tokens, size].
        key, value: [1, key heads, tokens, size]; fewer heads are repeated; values may have another size.
        attention_mask: A mask of the family's own making; refused.
        scaling: Factor of the scores; 1 / sqrt(size) where the layer names none.
        dropout: Of the attention weights; refused.
        sliding_window: Tokens that a query sees at most, itself included.
        softcap: The scores are bent to stay within it; refused on a CPU.
        s_aux: Attention sinks; refused on a CPU.
        is_causal: False for layers that look ahead; refused.
        segments: What `prepare` made; it travels through the model's keyword arguments.
        others: What some families hand over besides; none of it changes the scores.

    Returns:
        [1, tokens, heads, size of the values], and no weights.

    Raises:
        Unsupported: If the layer asks for something that is not computed here.
    """
    if segments is None:
        raise Unsupported(f"{type(module).__name__} does not hand on what its queries may see")
    if attention_mask is not None:
        raise Unsupported(f"{type(module).__name__} brings a mask of its own")
    if is_causal is False or not getattr(module, "is_causal", True):
        raise Unsupported(f"{type(module).__name__} looks ahead")
    if dropout > 0.0:
        raise Unsupported("attention dropout is above 0")
    window = sliding_window if sliding_window is not None and sliding_window < segments.longest else None
    if (
        torch.is_autocast_enabled(query.device.type) and query.dtype != torch.float64
    ):  # rotary embeddings leave query and key in float32
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    size = value.shape[-1]
    query, key, value = _of_one_size(query, key, value)
    if isinstance(segments, VarlenRuns):
        out = varlen_attention(query, key, value, segments, scale=scale, window=window, softcap=softcap, sinks=s_aux)
    else:
        _refuse_on_cpu(window, softcap, s_aux)
        merged: Tensor = _SegmentAttention.apply(query, key, value, segments, scale)  # type: ignore[no-untyped-call]
        out = merged.transpose(1, 2)
    return out[..., :size], None


def _of_one_size(*parts: Tensor) -> tuple[Tensor, ...]:
    """The same with heads of one size (multi-head latent attention has two): zeros change no score."""
    size = max(part.shape[-1] for part in parts)
    return tuple(part if part.shape[-1] == size else pad(part, (0, size - part.shape[-1])) for part in parts)


def _refuse_on_cpu(window: int | None, softcap: float | None, sinks: Tensor | None) -> None:
    if window is not None:
        raise Unsupported(f"rows are longer than the sliding window of {window} tokens")
    if softcap is not None:
        raise Unsupported("attention scores are capped")
    if sinks is not None:
        raise Unsupported("attention has sinks")


class _SegmentAttention(torch.autograd.Function):
    """Flash attention of each segment; what later responses see of the prompt is merged in by its log-sum-exp.

    The work is that of the segments' runs, not of the square of the input.

    Backward: each run's own backward, called with the merged output and log-sum-exp, gives its exact share of the
    gradient (Liu et al. 2023, Ring Attention, arXiv:2310.01889, appendix).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float) -> Tensor:
        out = torch.empty_like(query)
        lse_dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        lse = torch.empty(query.shape[:-1], dtype=lse_dtype, device=query.device)
        for place, keys, is_causal in segments.runs:
            own = _flash(query[:, :, place], key[:, :, keys], value[:, :, keys], 0.0, is_causal, scale=scale)
            if is_causal:
                out[:, :, place], lse[:, :, place] = own
            else:
                _merge(out[:, :, place], lse[:, :, place], *own)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.segments, ctx.scale = segments, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        # Several responses add to the same prompt: summed in float32 whatever the type of the weights. Every place has
        # a causal run, which comes before those that add to it.
        sums = [torch.empty_like(known, dtype=lse.dtype) for known in (query, key, value)]
        for place, keys, is_causal in ctx.segments.runs:
            here = [known[:, :, place] for known in (grad, query, out, lse)]
            parts = _flash_backward(
                here[0], here[1], key[:, :, keys], value[:, :, keys], *here[2:], 0.0, is_causal, scale=ctx.scale
            )
            for known, part, where in zip(sums, parts, (place, keys, keys), strict=True):
                if is_causal:
                    known[:, :, where] = part
                else:
                    known[:, :, where] += part
        return *(known.to(query.dtype) for known in sums), None, None


def _merge(out: Tensor, lse: Tensor, other_out: Tensor, other_lse: Tensor) -> None:
    """Attention over two sets of keys, from that over each; written into the first."""
    share = torch.sigmoid(other_lse - lse)[..., None]
    out.copy_(torch.lerp(out.to(share.dtype), other_out.to(share.dtype), share))
    torch.logaddexp(lse, other_lse, out=lse)


@contextmanager
def count_layers() -> Iterator[set[nn.Module]]:
    """The layers that take their attention from here while the block runs."""
    seen: set[nn.Module] = set()

    def noting(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        seen.add(module)
        return attend(module, *args, **kwargs)

    AttentionInterface.register(NAME, noting)
    try:
        yield seen
    finally:
        AttentionInterface.register(NAME, attend)


AttentionInterface.register(NAME, attend)
