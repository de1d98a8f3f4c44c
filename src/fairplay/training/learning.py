"""What the optimiser steps need of whoever learns: a policy (`stepping.Learner`) or an oracle (`oracle_learner.py`).

Left out: both of them, and the steps (`steps.py`). Floor 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor
from torch.nn import Module

from fairplay.objectives.anchors import State
from fairplay.training.batches import ReferenceLogps
from fairplay.training.distributed import Ranks
from fairplay.training.metrics import MetricWindow
from fairplay.training.plan import Step


@dataclass(frozen=True)
class StepOutcome:
    """What one step computed; the gradient lies in the parameters.

    Attributes:
        loss: Loss of the whole step, a detached scalar on the device.
        example_losses: For each micro-batch the example ids and their losses, [examples].
        num_tokens: Tokens the model read, padding not counted.
        state: The objective's state for the next step.
    """

    loss: Tensor
    example_losses: list[tuple[list[str], Tensor]]
    num_tokens: int
    state: State


class Learns(Protocol):
    """Everything that a step's gradient depends on besides the weights."""

    @property
    def model(self) -> Module:
        """Holds the parameters that are trained: those that require a gradient."""
        ...

    @property
    def ranks(self) -> Ranks:
        """Who computes a step together."""
        ...

    @property
    def initial_state(self) -> State:
        """The objective's state before the first step."""
        ...

    @property
    def reference(self) -> ReferenceLogps:
        """The log-probs of a reference that are in force; empty where there is none."""
        ...

    def with_reference(self, reference: ReferenceLogps) -> Self:
        """The same with other log-probs of the reference."""
        ...

    def accumulate(self, step: Step, *, number: int, epoch: int, state: State, window: MetricWindow) -> StepOutcome:
        """Add the gradient of the step's loss to the parameters.

        Args:
            step: Micro-batches of indices.
            number: Number of the step, from 0.
            epoch: Number of the pass over the data, from 0.
            state: The objective's state from the last step.
            window: Metrics to count the step in.
        """
        ...


class Renews(Protocol):
    """When and how a reference is renewed; see `renewal.Renewal`."""

    def is_due(self, number: int) -> bool: ...

    def renewed(self, policy: Any, number: int) -> ReferenceLogps: ...

    def state(self, reference: ReferenceLogps, step: int) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor], reference: ReferenceLogps, step: int) -> ReferenceLogps: ...
