"""Rows of token ids into batches of like length, padded on the right; a row's result does not hang on its neighbours.

Left out: what the rows are made of (`pair_encoding.py`, `reward_model.py`). Floor 4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CPU_TOKENS = 4096
"""Enough to keep a CPU busy; more falls out of its caches (0.46M parameters: 1.8 s at 2048, 3.1 s at 65536)."""


def token_budget(batch_size: int, max_length: int, device: torch.device) -> int:
    """Tokens of one forward pass: `batch_size` rows of `max_length`, on a CPU no more than `CPU_TOKENS`."""
    asked = batch_size * max_length
    return min(asked, CPU_TOKENS) if device.type == "cpu" else asked


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Indices of the rows, shortest first, in batches of at most `max_tokens` including padding.

    Args:
        lengths: Tokens of each row, [rows].
        max_tokens: Rows of a batch times its longest row; a single row may be longer.

    Returns:
        Batches of indices into `lengths`; every index occurs once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_right(rows: Sequence[Sequence[int]], *, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of a batch.

    Args:
        rows: Token ids of each row, ragged.
        pad_id: What fills the rest; the mask hides it.
        device: Where the tensors go.

    Returns:
        (ids, mask), each [rows, longest], int64; the mask is 1 on tokens and 0 on padding.
    """
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
    return ids, mask
