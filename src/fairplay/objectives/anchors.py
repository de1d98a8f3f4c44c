"""Anchors: detached statistics of a whole optimiser step that rewards are measured against, with explicit state.

Left out: gathering a step's examples from micro-batches and ranks (`evaluate.token_gradient`, training). Floor 2.
State is numbers by name: the caller keeps it between steps and saves it in checkpoints; nothing is mutated. Those that
come from a model are scalar tensors, so that no step waits for one; a plain number in their place is as good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fairplay.logps import to_device
from fairplay.objectives.hashing import mixed, uniform
from fairplay.objectives.sides import Comparisons
from fairplay.seeds import stable_seed

State = Mapping[str, float | Tensor]
STATELESS: State = {}
SMALLEST_BETA = 1e-3


def plain(state: State) -> dict[str, float]:
    """A state as plain numbers, for a checkpoint; waits for the device."""
    return {name: float(value) for name, value in state.items()}


class Anchor(Protocol):
    """A statistic of the step."""

    @property
    def initial(self) -> State:
        """The state before the first step."""
        ...

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        """The anchor's value, a scalar or [rows], and the state for the next step."""
        ...


@dataclass(frozen=True)
class NoAnchor:
    """0."""

    initial: ClassVar[State] = STATELESS

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        return comparisons.anchor, state


@dataclass(frozen=True)
class MismatchedKl:
    """max(0, mean log-ratio of the anchor rows): KTO's z_0, from prompts paired with other prompts' responses.

    Anchor rows are ordinary responses of the batch, marked by 1 in the column "anchors"; no term learns from them.
    """

    initial: ClassVar[State] = STATELESS
    needs: ClassVar[frozenset[str]] = frozenset({"anchors", "reference"})
    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        logps = comparisons.batch.logps
        logratios = logps.sum_per_response((logps.policy - logps.reference).detach())
        anchors = np.flatnonzero(comparisons.batch.structure.columns["anchors"] == 1)
        return functional.relu(logratios[to_device(anchors, logratios.device)].mean()), state


@dataclass(frozen=True)
class RunningMean:
    """Mean reward of all responses seen so far, this step's included: BCO's delta."""

    initial: ClassVar[State] = {"num_rewards": 0.0, "mean_reward": 0.0}
    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        rewards = (comparisons.chosen.rewards + comparisons.rejected.rewards).detach() / 2
        count = state["num_rewards"] + len(rewards)
        mean = state["mean_reward"] + (rewards - state["mean_reward"]).sum() / count
        return mean, {"num_rewards": count, "mean_reward": mean}


@dataclass(frozen=True)
class DynamicScale:
    """max(1 + alpha (mean margin - M), 0.001 / beta): beta-DPO's factor on beta, M the moving average of mean margins.

    With `drop` above 0 that share of the step's pairs is dropped: the factor is 0 there, and the mean margin is that of
    the others. Which are kept is drawn without replacement by the weights exp(-((margin - M) / D)^2 / 2), D the moving
    average of the margins' standard deviation; by equal weights while D is 0. M and D are of all pairs, and include
    this step already, as in the authors' code.
    """

    alpha: float
    beta: float
    initial_margin: float
    momentum: float
    drop: float
    couples_examples: ClassVar[bool] = True
    initial: State = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial", {"mean_margin": self.initial_margin, "margin_deviation": 0.0})

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        margins = (comparisons.chosen.logratios - comparisons.rejected.logratios).detach()
        deviation = margins.std() if len(margins) > 1 else torch.zeros_like(margins[0])
        average, spread = (
            self.momentum * state[name] + (1 - self.momentum) * now
            for name, now in (("mean_margin", margins.mean()), ("margin_deviation", deviation))
        )
        kept = torch.ones_like(margins)
        if self.drop:
            kept = self._drawn(comparisons, (margins - average) / torch.where(spread > 0, spread, torch.inf))
        mean = (margins * kept).sum() / kept.sum()
        scale = (1 + self.alpha * (mean - average)).clamp(min=SMALLEST_BETA / self.beta)
        return scale * kept, {"mean_margin": average, "margin_deviation": spread}

    def _drawn(self, comparisons: Comparisons, standardised: Tensor) -> Tensor:
        """1 for rows that are kept, [rows]: the largest log-weights after Gumbel noise, drawn without replacement."""
        rows, batch, device = comparisons.rows.planned, comparisons.batch.structure, standardised.device
        start = stable_seed(comparisons.seed, "kept pairs", batch.epoch)
        first = np.searchsorted(batch.example_index, np.arange(batch.num_examples))[rows.example]
        keys = to_device(batch.example_keys[rows.example], device)
        chosen, rejected = to_device(rows.chosen - first, device), to_device(rows.rejected - first, device)
        hashes = mixed(mixed(mixed(keys ^ start) + chosen) + rejected)
        noise = -torch.log(-torch.log(uniform(hashes)))
        order = (noise - standardised.square() / 2).argsort(descending=True)
        kept = order[: max(1, int(len(order) * (1 - self.drop)))]
        return torch.zeros_like(standardised).index_fill(0, kept, 1.0)


@dataclass(frozen=True)
class StandardisedMargin:
    """gamma + alpha z, z the margin of log-ratios standardised over the step: AlphaDPO's target margin, [rows]."""

    gamma: float
    alpha: float
    initial: ClassVar[State] = STATELESS
    needs: ClassVar[frozenset[str]] = frozenset({"reference"})
    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons, state: State) -> tuple[Tensor, State]:
        margins = (comparisons.chosen.logratios - comparisons.rejected.logratios).detach()
        spread = margins.std(correction=0).clamp(min=1e-12)
        return self.gamma + self.alpha * (margins - margins.mean()) / spread, state
