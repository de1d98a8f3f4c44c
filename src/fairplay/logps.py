"""Flat token log-probs and the batch of preference data that an objective reads.

Left out: how the log-probs are computed (`models/`) and what is done with them (`objectives/`). Floor 1.
Everything is flat, [tokens] or [responses], with index tensors instead of padding: a layout that packing, shared
prompts and fused heads can fill without the objectives knowing. What is known before a model runs lies in numpy arrays
beside (`Structure`): what is planned from those never waits for a device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


def to_device(values: NDArray[np.generic] | Tensor, device: torch.device) -> Tensor:
    """Values that lie on the host, on a device that need not wait for them, nor the host for it."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class TokenLogps:
    """Log-probs of scored tokens under policy and reference, side by side at the same positions.

    Attributes:
        policy: log pi_theta(y_t | ...), [tokens], nats, float32 or float64; carries the gradient.
        reference: log pi_ref(y_t | ...), [tokens]; zeros where no reference is used (see `has_reference`).
        response_index: The response each token belongs to, [tokens], int64, non-decreasing, in [0, num_responses).
        position: Place of the token within its response, [tokens], int64, from 0.
        num_responses: Number of responses; each has at least one token.
        has_reference: False means that `reference` holds no information; objectives that need one refuse the batch.
        statistics: Further per-token values by name, [tokens] each, such as "log_sum_sq", "kl_ref_policy", "weight".
    """

    policy: Tensor
    reference: Tensor
    response_index: Tensor
    position: Tensor
    num_responses: int
    has_reference: bool = True
    statistics: Mapping[str, Tensor] = field(default_factory=dict)

    def lengths(self) -> Tensor:
        """Scored tokens of each response, [responses], int64; counted once."""
        return self._lengths

    @cached_property
    def _lengths(self) -> Tensor:
        zeros = self.response_index.new_zeros(self.num_responses)
        return zeros.index_add_(0, self.response_index, torch.ones_like(self.response_index))

    def sum_per_response(self, values: Tensor) -> Tensor:
        """Sum of a per-token value over each response, [tokens] -> [responses]."""
        zeros = values.new_zeros(self.num_responses)
        return zeros.index_add(0, self.response_index, values)


@dataclass(frozen=True)
class Structure:
    """Who is held against whom: all that a batch is before a model has read it, on the host.

    Attributes:
        lengths: Scored tokens of each response, [responses].
        example_index, num_examples, pairs, example_keys, columns, epoch: As in `PreferenceBatch`.
    """

    lengths: Ints
    example_index: Ints
    num_examples: int
    pairs: Ints
    example_keys: Ints
    columns: Mapping[str, NDArray[np.floating]]
    epoch: int

    @property
    def num_responses(self) -> int:
        """Number of responses."""
        return len(self.lengths)


@dataclass(frozen=True)
class PreferenceBatch:
    """Token log-probs with the preference data of the same responses; examples are whole, never split.

    Attributes:
        logps: Flat token log-probs of all responses.
        example_index: The example each response belongs to, [responses], int64, non-decreasing.
        num_examples: Number of examples; each has at least one response.
        pairs: (chosen, rejected) response indices within the batch, [pairs, 2], int64; [0, 2] if there are none.
        example_keys: A stable 63-bit hash of each example's id, [examples], int64; seeds draws such as SamPO's.
        columns: Per-response data by name, [responses] each: "win_rates", "labels" (1 desirable, 0 not), "scores".
        epoch: Number of the pass over the data, from 0; draws differ between epochs.
        known: The same on the host, where the maker has it; who changes any of these leaves it out. Else the device is
            asked, and waited for.
    """

    logps: TokenLogps
    example_index: Tensor
    num_examples: int
    pairs: Tensor
    example_keys: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    known: Structure | None = None

    @cached_property
    def structure(self) -> Structure:
        """What was known of the batch before a model read it."""
        if self.known is not None:
            return self.known
        return Structure(
            lengths=self.logps.lengths().numpy(force=True),
            example_index=self.example_index.numpy(force=True),
            num_examples=self.num_examples,
            pairs=self.pairs.numpy(force=True),
            example_keys=self.example_keys.numpy(force=True),
            columns={name: values.numpy(force=True) for name, values in self.columns.items()},
            epoch=self.epoch,
        )


@dataclass(frozen=True)
class StepTotals:
    """Sizes of a whole optimiser step, over all micro-batches and ranks; a loss divides by these, never by its own.

    Attributes:
        num_examples: Examples of the step.
        num_pairs: Pairs of the step.
        num_responses: Responses of the step.
        num_chosen_tokens: Tokens (or summed token weights) of the responses that a likelihood term learns from.
    """

    num_examples: int
    num_pairs: int
    num_responses: int
    num_chosen_tokens: float
