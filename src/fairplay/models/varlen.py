"""Attention within segments on a GPU: one call of FlashAttention with runs of unequal lengths, and nothing masked.

A group's prompt and first response are one run. Each later response is a run whose queries are the response and whose
keys are a copy of the prompt and the response; FlashAttention aligns the causal diagonal at the bottom right, so the
response sees the prompt and its own past, and a sliding window counts what a row of its own would count. Left out:
devices without the kernel (`attention.py`). Floor 3.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import modeling_flash_attention_utils, utils

from fairplay.errors import SettingsError
from fairplay.logps import to_device
from fairplay.models.layouts import Segments


class Unsupported(SettingsError):
    """A model asks of its attention what is not computed here; `probe.choose_layout` finds that out beforehand."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="take the layout `padded`")


@dataclass(frozen=True)
class VarlenRuns:
    """Segments as FlashAttention reads them.

    Attributes:
        queries, keys: Borders of the runs among the queries and among the gathered keys, [runs + 1], int32.
        gather: Place in the input of each key, [keys], int64; empty where the keys are the input as it lies.
        longest_query: Queries of the longest run.
        longest: Keys of the longest run.
    """

    queries: Tensor
    keys: Tensor
    gather: Tensor
    longest_query: int
    longest: int


def varlen_runs(segments: Segments, device: torch.device) -> VarlenRuns:
    """The runs of an input's segments, on their device."""
    runs = []  # (prompt's start and end, run's start and end); the prompt of a first response is in its run already
    for start, prompt_end, *ends in segments.groups:
        runs.append((start, start, start, ends[0]))
        runs += [(start, prompt_end, *span) for span in pairwise(ends)]
    table = np.array(runs, dtype=np.int64)
    num_queries = table[:, 3] - table[:, 2]
    num_keys = num_queries + table[:, 1] - table[:, 0]
    gather = np.concatenate([np.r_[start:end, first:last] for start, end, first, last in runs])
    is_as_it_lies = len(gather) == int(num_queries.sum())
    return VarlenRuns(
        queries=_borders(num_queries, device),
        keys=_borders(num_keys, device),
        gather=to_device(gather[:0] if is_as_it_lies else gather, device),
        longest_query=int(num_queries.max()),
        longest=segments.longest,
    )


def _borders(lengths: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> Tensor:
    return to_device(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), device)


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    runs: VarlenRuns,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention of all runs in one call.

    Args:
        query: [1, heads, tokens, size]; FlashAttention takes bfloat16 and float16.
        key, value: [1, key heads, tokens, size].
        runs: Who sees whom.
        scale: Factor of the scores.
        window: Tokens that a query sees at most, itself included; None for all of its run.
        softcap: The scores are bent to stay within it; None for as they are.
        sinks: One more score for each head, [heads]; None for none.

    Returns:
        [1, tokens, heads, size].

    Raises:
        Unsupported: If what the layer asks for needs a package that is missing.
        RuntimeError: If the kernel does not take this type or size.
    """
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    if len(runs.gather):
        k, v = gather_rows(k, runs.gather), gather_rows(v, runs.gather)
    kernel = _torch_kernel if softcap is None and sinks is None else _package_kernel
    return kernel(q, k, v, runs, scale=scale, window=window, softcap=softcap, sinks=sinks)[None]


def gather_rows(values: Tensor, places: Tensor) -> Tensor:
    """Rows of a tensor, some of them several times: [rows, ...] -> [places, ...].

    The gradients of a row's copies are summed in float32 or better, in an order that does not change.
    """
    gathered: Tensor = _GatherRows.apply(values, places)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = values.shape
        return values.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
        total = torch.zeros(ctx.shape, dtype=dtype, device=grad.device)
        if grad.is_cuda:  # sorts the places first, where index_add would add in any order
            total.index_put_((places,), grad.to(dtype), accumulate=True)
        else:
            total.index_add_(0, places, grad.to(dtype))
        return total.to(grad.dtype), None


def _torch_kernel(query: Tensor, key: Tensor, value: Tensor, runs: VarlenRuns, **asked: Any) -> Tensor:
    """The kernel that comes with torch; it knows windows, but neither caps nor sinks."""
    function, options = _torch_function()
    out: Tensor = function(
        query,
        key,
        value,
        runs.queries,
        runs.keys,
        runs.longest_query,
        runs.longest,
        scale=asked["scale"],
        # The kernel counts the tokens to the left of the query, families count the query too.
        window_size=(-1 if asked["window"] is None else asked["window"] - 1, 0),
        **options,
    )
    return out


@cache
def _torch_function() -> tuple[Callable[..., Any], dict[str, bool]]:
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.11 repeats key heads unasked; later versions want to be asked.
    has_switch = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return varlen_attn, {"enable_gqa": True} if has_switch else {}


def _package_kernel(query: Tensor, key: Tensor, value: Tensor, runs: VarlenRuns, **asked: Any) -> Tensor:
    """FlashAttention 2 or 3 as a package of its own, through transformers: it knows caps (2) and sinks (3)."""
    flash: Any = modeling_flash_attention_utils
    sinks = asked["sinks"]
    out: Tensor = flash._flash_attention_forward(
        query[None],
        key[None],
        value[None],
        None,
        query_length=query.shape[0],
        is_causal=True,
        softmax_scale=asked["scale"],
        sliding_window=asked["window"],
        softcap=asked["softcap"],
        cu_seq_lens_q=runs.queries,
        cu_seq_lens_k=runs.keys,
        max_length_q=runs.longest_query,
        max_length_k=runs.longest,
        attn_implementation=_package(has_sinks=sinks is not None),
        s_aux=None if sinks is None else sinks.to(query.dtype),
    )
    return out[0]


def _package(*, has_sinks: bool) -> str:
    known: Any = utils
    if known.is_flash_attn_3_available():
        return "flash_attention_3"
    if known.is_flash_attn_2_available() and not has_sinks:
        return "flash_attention_2"
    wanted = "sinks need flash-attn 3" if has_sinks else "capped scores need flash-attn"
    raise Unsupported(f"attention's {wanted}, which is not installed")
