"""From hidden states to token log-probs: which weight the head is, what a family does to its logits, statistics.

A plain linear head goes through `linear_logprob.py`. One with adapters, and divergences from a second model, make the
logits of a tile and make them again in the backward pass. Left out: the body, and which positions are scored
(`token_logps.py`). Floor 3.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairplay.models.adapters import adapters_off
from fairplay.models.linear_logprob import HeadWork, LogitTransform, linear_logprob

# What of the size [tokens, vocabulary] may be kept for the backward pass, so that it is not computed again: 256 MB.
KEPT_BYTES = 2**28
# On a CPU tiles of 64 MB were fastest, unless they are of few tokens (benchmarks/head.py); a GPU wants them larger.
CPU_TILE_BYTES, CPU_TILE_TOKENS = 2**26, 256
# A logit takes up to four float32 where autograd records what becomes of it.
RECORDED_BYTES = 16


def _log_sum_sq(log_probs: Tensor) -> Tensor:
    return torch.logsumexp(2.0 * log_probs, dim=-1)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).nan_to_num(nan=0.0).sum(dim=-1)


STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = {"log_sum_sq": _log_sum_sq, "entropy": _entropy}


def _kl(of: Tensor, against: Tensor) -> Tensor:
    return (of.exp() * (of - against)).nan_to_num(nan=0.0).sum(dim=-1)


# Of the policy's and the reference's log-probs, [tokens, vocabulary] each; they carry the gradient.
DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl_ref_policy": lambda policy, reference: _kl(reference, policy),
    "kl_policy_ref": _kl,
}

# What models do to the logits after the head, by the name of the setting in their config.
LOGIT_TRANSFORMS: Mapping[str, Callable[[float], LogitTransform]] = {
    "final_logit_softcapping": lambda cap: LogitTransform(cap=cap),  # Gemma 2 and 3
    "logit_scale": lambda scale: LogitTransform(scale=scale),  # Cohere
    "logits_scaling": lambda scale: LogitTransform(scale=1.0 / scale),  # Granite
    "lm_head_multiplier": lambda scale: LogitTransform(scale=scale),  # Falcon H1
}


# Asked for at every pass; to look at the config takes longer than a small head.
_TRANSFORMS: WeakKeyDictionary[nn.Module, LogitTransform] = WeakKeyDictionary()


def _transform(causal: Any) -> LogitTransform:
    """What this model does to its logits; a bound comes after all factors (`check_head` would tell)."""
    if causal not in _TRANSFORMS:
        _TRANSFORMS[causal] = _configured_transform(causal)
    return _TRANSFORMS[causal]


def _configured_transform(causal: Any) -> LogitTransform:
    config = causal.config.get_text_config()
    values = {name: getattr(config, name, None) for name in LOGIT_TRANSFORMS}
    found = [LOGIT_TRANSFORMS[name](value) for name, value in values.items() if value is not None]
    return LogitTransform(math.prod(one.scale for one in found), max((one.cap for one in found), default=0.0))


def _log_probs(causal: Any, hidden: Tensor) -> Tensor:
    """Log-probs of the whole vocabulary, [tokens, size] -> [tokens, vocabulary]."""
    logits = _transform(causal)(causal.get_output_embeddings()(hidden))
    log_probs: Tensor = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(dim=-1)
    return log_probs


@dataclass(frozen=True)
class Heads:
    """From hidden states to scores: log-probs, then statistics, then divergences, each in the order of its names."""

    causal: Any
    reference: Any  # None where there are no divergences; `causal` itself stands for it without adapters
    wanted: Mapping[str, Callable[[Tensor], Tensor]]
    divergences: Mapping[str, Callable[[Tensor, Tensor], Tensor]]

    def __call__(self, hidden: Tensor, target: Tensor, *of_reference: Tensor) -> tuple[Tensor, ...]:
        log_probs = _log_probs(self.causal, hidden)
        logps = log_probs.gather(-1, target[:, None])[:, 0]
        with torch.no_grad():
            values = [statistic(log_probs) for statistic in self.wanted.values()]
            is_own = self.reference is self.causal
            with adapters_off(self.causal.get_output_embeddings()) if is_own else nullcontext():
                others = [_log_probs(self.reference, part).to(log_probs.device) for part in of_reference]
        return logps, *values, *(d(log_probs, other) for other in others for d in self.divergences.values())


def score_hidden(heads: Heads, inputs: Sequence[Tensor], tile: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores of all tokens, in tiles where there are too many.

    Args:
        heads: What is computed of a token.
        inputs: Hidden states, targets and, for divergences, the reference's hidden states; [tokens, ...] each.
        tile: Tokens whose logits are held at a time, at most.

    Returns:
        Log-probs, [tokens], and statistics and divergences by name, [tokens] each.
    """
    head = heads.causal.get_output_embeddings()
    if heads.divergences or not _is_plain(head):
        logps, *values = _in_tiles(heads, inputs, tile)
    else:
        if head.weight.device.type == "cpu":
            tile = min(tile, max(CPU_TILE_TOKENS, CPU_TILE_BYTES // (4 * len(head.weight))))
        work = HeadWork(tile, KEPT_BYTES, _transform(heads.causal), tuple(heads.wanted.values()))
        logps, *values = linear_logprob(inputs[0], head.weight, head.bias, inputs[1], work)
    return logps, dict(zip((*heads.wanted, *heads.divergences), values, strict=True))


def _is_plain(head: nn.Module) -> bool:
    """Whether the head is its weight and its bias: no adapter, hook, sharded or quantised weight."""
    if type(head) is not nn.Linear or type(head.weight) not in (Tensor, nn.Parameter):
        return False
    return not (head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head))


def _in_tiles(heads: Heads, inputs: Sequence[Tensor], tile: int) -> list[Tensor]:
    """The head as the model calls it, its logits made again in the backward pass where there are too many."""
    num_tokens, num_words = inputs[0].shape[0], heads.causal.config.get_text_config().vocab_size
    if num_tokens * num_words * RECORDED_BYTES <= KEPT_BYTES or tile >= num_tokens:
        return list(heads(*inputs))
    tiles = zip(*(torch.split(values, tile) for values in inputs), strict=True)
    parts = [checkpoint(heads, *part, use_reentrant=False) for part in tiles]
    return [torch.cat(column) for column in zip(*parts, strict=True)]
