"""Log-probs of target tokens straight from hidden states: [tokens, vocabulary] is never whole, unless it is small.

Logits are made a tile of tokens at a time and turned at once into their own slope, up to a factor per token: softmax
minus one-hot, the gradient of what is to be small. From it follows the hidden states' gradient within the forward pass;
for the weight's it is kept where it fits a budget, else made again. Left out: which module the weight is of, what two
models differ in (`head.py`). Floor 3.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits that are read at a time, in float32: a megabyte stays in a core's cache; a GPU wants more at once.
READ_ON_CPU, READ_ELSEWHERE = 2**18, 2**26
# Rows of the weight whose gradient is added up at a time where products are in half precision: they stay in the cache.
SUMMED_ROWS = 4096


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to its logits: cap * tanh(scale * logits / cap), or scale * logits where there is no cap.

    Attributes:
        scale: Factor of the logits.
        cap: What they stay below in size; 0 for no bound.
    """

    scale: float = 1.0
    cap: float = 0.0

    @property
    def factor(self) -> float:
        """What the hidden states are multiplied by, so that the tanh follows, or nothing."""
        return self.scale / self.cap if self.cap else self.scale

    def __call__(self, logits: Tensor) -> Tensor:
        """The model's logits from its head's, of any shape."""
        changed = logits * self.factor
        return changed.tanh() * self.cap if self.cap else changed


@dataclass(frozen=True)
class HeadWork:
    """How a head's work is cut, and what comes of it beside log-probs.

    Attributes:
        tile: Tokens whose logits are held at a time.
        kept_bytes: [tokens, vocabulary] up to this size is kept for the backward pass, in the type computed in.
        transform: What the model does to its logits.
        statistics: Functions of log-probs, [tokens, vocabulary] -> [tokens].
    """

    tile: int
    kept_bytes: int
    transform: LogitTransform = LogitTransform()
    statistics: Sequence[Callable[[Tensor], Tensor]] = ()


def linear_logprob(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, work: HeadWork
) -> tuple[Tensor, ...]:
    """Log-probs of target tokens under the softmax of a linear head, and statistics of that softmax.

    Products are computed in the hidden states' type, or in autocast's where that is on; log-sum-exp and sums of the
    weight's gradient in float32, or in float64 for float64. Gradients are exact, once, for what asks for them.

    Args:
        hidden: Hidden states, [tokens, size].
        weight: The head's matrix, [vocabulary, size].
        bias: [vocabulary], or None.
        target: Token ids, [tokens], int64.
        work: Tiles, budget, transform and statistics.

    Returns:
        Log-probs in nats and the values of each statistic, detached; [tokens] each, float32 or float64.
    """
    apply: Callable[..., tuple[Tensor, ...]] = _LinearLogprob.apply
    return apply(hidden, weight, bias, target, work, torch.is_grad_enabled())


class _LinearLogprob(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, work: HeadWork, recording: bool
    ) -> tuple[Tensor, ...]:
        dtype, (count, vocabulary) = _compute_dtype(hidden), (len(hidden), len(weight))
        for_hidden = recording and ctx.needs_input_grad[0]
        for_weight = recording and any(ctx.needs_input_grad[1:3])
        keeps = for_weight and count * vocabulary * dtype.itemsize <= work.kept_bytes
        with _as_typed(hidden.device):
            head = _head(_times(work.transform.factor, hidden), weight, bias, target, work, dtype)
            held = torch.empty(count if keeps else min(count, work.tile), vocabulary, dtype=dtype, device=hidden.device)
            found = [target.new_empty(count, dtype=_exact(dtype)) for _ in range(1 + len(work.statistics))]
            unit = torch.empty_like(head.hidden) if for_hidden else None
            for part in _parts(count, work.tile):
                tile = head.logits(part, held[part] if keeps else held[: part.stop - part.start])
                head.read(tile, part, found=found, slope=keeps or for_hidden)
                if unit is not None:
                    torch.mm(tile, head.weight, out=unit[part])
        ctx.work, ctx.hidden_dtype = work, hidden.dtype
        ctx.save_for_backward(head.hidden if for_weight else None, weight, bias, target, unit, held if keeps else None)
        ctx.mark_non_differentiable(*found[1:])
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_logps: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, unit, kept = ctx.saved_tensors
        factor, coefficient = ctx.work.transform.factor, of_logps.neg()[:, None]
        of_hidden = of_weight = of_bias = None
        with _as_typed(of_logps.device):
            if unit is not None:
                of_hidden = (unit * _times(factor, coefficient)).to(ctx.hidden_dtype)
            if hidden is not None:
                head = _head(hidden, weight, bias, target, ctx.work, hidden.dtype)
                columns = hidden * coefficient
                if bias is not None:  # its gradient is one more column of the weight's
                    columns = torch.cat([columns, coefficient * factor], dim=1)
                sums = head.weight_gradient(columns.to(hidden.dtype), kept)
                of_weight = sums[:, : weight.shape[1]].to(weight.dtype)
                of_bias = None if bias is None else sums[:, -1].to(bias.dtype)
        return of_hidden, of_weight, of_bias, None, None, None


@dataclass(frozen=True)
class _Head:
    """A head in the type that is computed in; hidden states and bias are multiplied by the transform's factor."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    target: Tensor
    work: HeadWork

    def logits(self, part: slice, out: Tensor) -> Tensor:
        """What the tanh or the softmax of some tokens is of, [tokens, vocabulary]."""
        if self.bias is None:
            return torch.mm(self.hidden[part], self.weight.t(), out=out)
        return torch.addmm(self.bias, self.hidden[part], self.weight.t(), out=out)

    def read(self, tile: Tensor, part: slice, *, found: Sequence[Tensor], slope: bool) -> None:
        """Scores of a tile's tokens, and their slope in its place.

        Args:
            tile: Logits of the tokens, [tokens, vocabulary]; on return the gradient of -log-prob in what `logits` gave.
            part: The tile's tokens.
            found: Log-probs, then statistics of all tokens, [all tokens] each, to fill in for these; empty for none.
            slope: Whether the slope is asked for; if not, the tile is left as it is.
        """
        at_once = READ_ON_CPU if tile.device.type == "cpu" else READ_ELSEWHERE
        cap = self.work.transform.cap
        for rows in _parts(len(tile), max(1, at_once // tile.shape[1])):
            tokens = slice(part.start + rows.start, part.start + rows.stop)
            logits = tile[rows].to(_exact(tile.dtype))
            squashed = logits.tanh() if cap else logits
            log_probs = (squashed * cap if cap else logits).log_softmax(dim=-1)
            target = self.target[tokens, None]
            for place, values in enumerate(found):
                score = self.work.statistics[place - 1] if place else None
                values[tokens] = score(log_probs) if score else log_probs.gather(1, target)[:, 0]
            if slope:
                is_exact = tile.dtype == logits.dtype and not cap
                probs = torch.exp(log_probs, out=tile[rows] if is_exact else log_probs)
                probs.scatter_(1, target, probs.gather(1, target) - 1.0)
                if not is_exact:
                    tile[rows] = probs * (1.0 - squashed.square()) * cap if cap else probs

    def weight_gradient(self, columns: Tensor, kept: Tensor | None) -> Tensor:
        """Sum over tokens of the logits' slopes times columns of factors.

        Args:
            columns: [tokens, columns], in the type computed in.
            kept: The slopes as `read` leaves them, [tokens, vocabulary]; None where they are to be made again.

        Returns:
            [vocabulary, columns].
        """
        if kept is not None:
            return torch.mm(kept.t(), columns)
        count = len(self.hidden)
        held = torch.empty(min(count, self.work.tile), len(self.weight), dtype=columns.dtype, device=columns.device)
        sums = torch.zeros(len(self.weight), columns.shape[1], dtype=_exact(columns.dtype), device=columns.device)
        for part in _parts(count, self.work.tile):
            tile = self.logits(part, held[: part.stop - part.start])
            self.read(tile, part, found=(), slope=True)
            if sums.dtype == columns.dtype:
                sums.addmm_(tile.t(), columns[part])
                continue
            for rows in _parts(len(sums), SUMMED_ROWS):
                sums[rows] += torch.mm(tile[:, rows].t(), columns[part])
        return sums


def _head(
    scaled: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, work: HeadWork, dtype: torch.dtype
) -> _Head:
    bias = None if bias is None else (bias * work.transform.factor).to(dtype)
    return _Head(scaled.to(dtype), weight.to(dtype), bias, target, work)


def _as_typed(device: torch.device) -> AbstractContextManager[object]:
    """Products are in the types of their factors; to switch autocast off where it is off takes longer than to look."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def _times(factor: float, values: Tensor) -> Tensor:
    return values if factor == 1.0 else values * factor


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """The type that autocast would compute a linear layer in."""
    device = hidden.device.type
    if hidden.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return hidden.dtype
    return torch.get_autocast_dtype(device)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type of sums and of log-probs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
