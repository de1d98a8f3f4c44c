"""Tensors of a checkpoint in files of several processes: each writes what it holds, any number of them can read.

A sharded tensor lies in parts, rows of its first dimension, one in the file of each process that holds some; any other
tensor lies whole in the first one's file. torch's own format (DCP) keeps its index in a pickle, which is code to those
who read it; here tensors are safetensors and the index is JSON. Left out: what is saved (`checkpoints.py`). Floor 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fairplay.storage.atomic import fsync_file
from fairplay.training.distributed import Ranks, is_copy, is_part, own_part, part_made_of, rows_of_part

# Name of a sharded tensor -> the rows (first, end) of it in a process's file; none where both are equal.
Rows = dict[str, tuple[int, int]]


def write_part(folder: Path, name: str, tensors: Mapping[str, Tensor], ranks: Ranks) -> Rows:
    """Write this process's file of some tensors; nothing is sent.

    Args:
        folder: Where the files of all processes go.
        name: What the tensors are; the file is `NAME-RANK.safetensors`.
        tensors: Sharded or not, the same names on every rank.
        ranks: Who writes.

    Returns:
        Where its rows of sharded tensors belong; `Parts` needs that of every rank.

    Raises:
        OSError: If the disk is full or not writable.
    """
    rows = {key: _rows_to_write(tensor) for key, tensor in tensors.items() if is_part(tensor)}
    kept = {key for key in tensors if (rows[key][0] < rows[key][1] if key in rows else ranks.is_first)}
    path = _file(folder, name, ranks.rank)
    save_file({key: own_part(tensors[key]).detach().cpu().contiguous() for key in kept}, path)
    fsync_file(path)
    return rows


def _rows_to_write(tensor: Tensor) -> tuple[int, int]:
    return (0, 0) if is_copy(tensor) else rows_of_part(tensor)


@dataclass(frozen=True)
class Parts:
    """Reads what `write_parts` wrote; only what is asked for comes into memory.

    Attributes:
        folder: Where the files are.
        name: What the tensors are.
        rows: What `write_part` gave to each rank, in their order.
    """

    folder: Path
    name: str
    rows: Sequence[Rows]

    def names(self) -> list[str]:
        """All tensors, in a fixed order."""
        with safe_open(_file(self.folder, self.name, 0), framework="pt") as file:
            return sorted({*file.keys(), *self.rows[0]})

    def read(self, key: str, like: Tensor) -> Tensor:
        """A tensor on the CPU, sharded as `like` is where it has as many rows, else whole; every rank reads its part.

        Args:
            key: The tensor's name.
            like: A tensor of the training that goes on, whole or sharded over however many ranks.
        """
        if key not in self.rows[0]:
            with safe_open(_file(self.folder, self.name, 0), framework="pt") as file:
                shape = file.get_slice(key).get_shape()
                if not is_part(like) or shape != list(like.shape):
                    whole: Tensor = file.get_tensor(key)
                    return whole
                first, end = rows_of_part(like)
                return part_made_of(file.get_slice(key)[first:end].to(like.device), like=like)
        first, end = rows_of_part(like) if is_part(like) else (0, len(like))
        found = [self._of_rank(rank, key, first, end) for rank in range(len(self.rows))]
        filled = [part for part in found if part is not None]
        own = torch.cat(filled) if filled else own_part(like).new_empty((0, *like.shape[1:]), device="cpu")
        return part_made_of(own.to(like.device), like=like)

    def _of_rank(self, rank: int, key: str, first: int, end: int) -> Tensor | None:
        """What lies in a rank's file of the rows from `first` on, up to but without `end`."""
        begin, stop = self.rows[rank][key]
        low, high = max(first, begin), min(end, stop)
        if low >= high:
            return None
        with safe_open(_file(self.folder, self.name, rank), framework="pt") as file:
            part: Tensor = file.get_slice(key)[low - begin : high - begin]
        return part


def _file(folder: Path, name: str, rank: int) -> Path:
    return folder / f"{name}-{rank}.safetensors"
