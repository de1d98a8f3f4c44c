"""A prompt is read once for all of its samples: the first pass of `generate` gets one row a prompt, and gives back all.

The keys and values of a prompt are then copied for each of its rows, so what follows does not know of it, and neither
do the samples: a row's numbers don't depend on its neighbours. Left out: sampling (`transformers_engine.py`). Floor 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_BY_ROW = {"input_ids", "attention_mask", "position_ids"}
_OF_ALL_ROWS = {"cache_position"}
_COPIED = (DynamicLayer, DynamicSlidingWindowLayer)


class _FirstPass:
    """Hooks of one call of `generate`.

    Args:
        prompts: Ids of each row; rows with the same ids are one prompt.
        device: Where the model is.
    """

    def __init__(self, prompts: Sequence[tuple[int, ...]], device: torch.device) -> None:
        numbers = {ids: number for number, ids in enumerate(dict.fromkeys(prompts))}
        self.first_rows = torch.tensor([prompts.index(ids) for ids in numbers], device=device)
        self.numbers = torch.tensor([numbers[ids] for ids in prompts], device=device)
        self.is_over = self.is_narrow = False

    def narrow(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One row a prompt, in the first pass."""
        del module
        self.is_narrow = not self.is_over and not args and _can_be_copied(kwargs, len(self.numbers))
        self.is_over = True
        if not self.is_narrow:
            return None
        return args, kwargs | {name: kwargs[name][self.first_rows] for name in _BY_ROW & set(kwargs)}

    def widen(self, module: Any, args: tuple[Any, ...], output: Any) -> Any:
        """All rows again."""
        del module, args
        if self.is_narrow:
            self.is_narrow = False
            output.logits = output.logits[self.numbers]
            output.past_key_values.batch_select_indices(self.numbers)
        return output


def _can_be_copied(inputs: Mapping[str, Any], num_rows: int) -> bool:
    """Whether what a model keeps of a prompt is keys and values alone, and all that it is given is known by row.

    States of another kind (Mamba's, those of hybrids) are left to the model: there every row reads its prompt.
    """
    cache = inputs.get("past_key_values")
    if type(cache) is not DynamicCache or any(type(layer) not in _COPIED for layer in cache.layers):
        return False
    given = {name: value for name, value in inputs.items() if isinstance(value, Tensor | Mapping)}
    return set(given) <= _BY_ROW | _OF_ALL_ROWS and all(
        isinstance(value, Tensor) and len(value) == num_rows for name, value in given.items() if name in _BY_ROW
    )


@contextmanager
def prompts_read_once(model: Any, prompts: Sequence[tuple[int, ...]]) -> Iterator[None]:
    """One call of the model's `generate`, on these rows, while the block runs.

    Args:
        model: Whose `generate` is called; its first pass must be over whole prompts.
        prompts: Ids of each row.
    """
    if len(set(prompts)) == len(prompts):
        yield
        return
    reading = _FirstPass(prompts, model.device)
    hooks = (
        model.register_forward_pre_hook(reading.narrow, with_kwargs=True),
        model.register_forward_hook(reading.widen),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
