"""The body of a causal language model on rows in a layout: the hidden states that predict the scored tokens.

The model's attention is its own, but while a packed input runs through it and back. Left out: how rows lie
(`layouts.py`), what computes attention within segments (`attention.py`), the head (`head.py`). Floor 3.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel as _PreTrainedModel

from fairplay.logps import to_device
from fairplay.models import attention
from fairplay.models.layouts import RowLayout
from fairplay.models.lean import lean_layers
from fairplay.models.varlen import Unsupported, gather_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The attention that each model came with, by the configs of its parts; a failed backward can't put it back itself.
_OWN_ATTENTION: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()
# Asked for several times a pass; to look through the modules of a large model takes a millisecond.
_CONFIGS: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()


def causal_model(model: "PreTrainedModel") -> Any:
    """The causal language model inside peft's wrapper, adapters in place."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def is_prompt_learning(model: Any) -> bool:
    """Whether peft puts learned tokens of its own before every row."""
    return hasattr(model, "active_peft_config") and bool(model.active_peft_config.is_prompt_learning)


def hidden_states(model: "PreTrainedModel", layout: RowLayout, *, stands_for: int = 0) -> Tensor:
    """The hidden states that predict the scored tokens, [tokens, size].

    Args:
        model: A causal language model; gradient checkpointing and adapters work in every layout.
        layout: The rows.
        stands_for: Tokens of the larger input that these rows are a sample of, where they are one.

    Raises:
        Unsupported: If the model's attention can't be computed within segments.
    """
    causal = causal_model(model)
    device = next(causal.parameters()).device
    input_ids, source = to_device(layout.input_ids, device), to_device(layout.source, device)
    num_tokens = max(stands_for, input_ids.numel())
    if layout.segments is None:
        _set_attention(causal, own_attention(causal))
        read = _after_learned_tokens if is_prompt_learning(model) else _plain
        with lean_layers(causal, num_tokens=num_tokens):
            hidden: Tensor = read(model, input_ids)
        return hidden.flatten(0, 1).index_select(0, source)
    if is_prompt_learning(model):
        raise Unsupported("the adapter puts tokens of its own before every row")
    segments = attention.prepare(layout.segments, device)
    positions = to_device(layout.position_ids, device)
    with _segment_attention(causal), lean_layers(causal, num_tokens=num_tokens):
        out = _body(causal)(input_ids=input_ids, position_ids=positions, segments=segments, use_cache=False)
    hidden = out.last_hidden_state
    if hidden.requires_grad:
        hidden.register_hook(partial(_attend_again, causal, own_attention(causal)))  # type: ignore[no-untyped-call]
    return gather_rows(hidden.flatten(0, 1), source)


def _body(causal: Any) -> Any:
    body = causal.base_model
    return causal.model if body is causal else body  # Llama 4 names its body otherwise than its prefix says


def _plain(model: Any, input_ids: Tensor) -> Tensor:
    hidden: Tensor = _body(causal_model(model))(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden


def _after_learned_tokens(model: Any, input_ids: Tensor) -> Tensor:
    """Through peft's own forward, which puts them there; of its logits it makes one a row."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, out: Any) -> None:
        found.append(out.last_hidden_state)

    hook = _body(causal_model(model)).register_forward_hook(keep)
    try:
        model(input_ids=input_ids, logits_to_keep=1, use_cache=False)
    finally:
        hook.remove()
    return found[-1][:, -input_ids.shape[1] :]


def own_attention(causal: Any) -> list[str]:
    """Names of the attention implementations that the model's parts came with."""
    current = [config._attn_implementation for config in _configs(causal)]
    if attention.NAME not in current:
        _OWN_ATTENTION[causal] = current
    return _OWN_ATTENTION[causal]


@contextmanager
def _segment_attention(causal: Any) -> Iterator[None]:
    own = own_attention(causal)
    _set_attention(causal, [attention.NAME] * len(own))
    try:
        yield
    finally:
        _set_attention(causal, own)


def _attend_again(causal: Any, own: Sequence[str], grad: Tensor) -> None:
    """Back through the model: what is computed again there (gradient checkpointing) sees the same attention."""
    _set_attention(causal, [attention.NAME] * len(own))
    engine: Any = torch.autograd.Variable._execution_engine
    engine.queue_callback(partial(_set_attention, causal, own))


def _set_attention(causal: Any, names: Sequence[str]) -> None:
    for config, name in zip(_configs(causal), names, strict=True):
        if config._attn_implementation != name:
            config._attn_implementation = name


def _configs(causal: Any) -> list[Any]:
    """The configs of the model's parts, each once."""
    if causal not in _CONFIGS:
        found = {id(part.config): part.config for part in causal.modules() if isinstance(part, _PreTrainedModel)}
        _CONFIGS[causal] = list(found.values())
    return _CONFIGS[causal]
