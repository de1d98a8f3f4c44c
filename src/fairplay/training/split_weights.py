"""Weights in bfloat16 that small steps move: each is the upper half of a float32, whose lower half is kept beside it.

At a learning rate of 5e-7 a step of Adam moves a weight of 0.02 by 5e-7, and half the distance to the next bfloat16 is
3e-5: trained in place, the weight stays where it is. Here any optimiser works on the whole float32, one parameter at a
time, and the model reads the upper half: the exact steps of a float32 master copy at 2 bytes a weight, not 4.

Source: Split-SGD, Kalamkar et al. 2020, arXiv:2005.04680, with the upper half rounded to the nearest instead of cut.
Left out: float16, whose bits don't begin a float32. Floor 5.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from fairplay.training.distributed import own_part, part_made_of

Groups = list[dict[str, Any]]
Build = Callable[[Groups], Optimizer]


def split(whole: Tensor, upper: Tensor, lower: Tensor) -> None:
    """Write the two halves of float32 numbers; nothing but one tensor of their size is made.

    Args:
        whole: Numbers, float32, any shape; used up.
        upper: Takes the nearest bfloat16 of each; halfway between two, the larger in size.
        lower: Takes the lower 16 bits as int16, counted from `upper`; the two together are `whole`, bit for bit.
    """
    bits = whole.view(torch.int32)
    rounded = (bits + 0x8000).bitwise_right_shift_(16)
    upper.view(torch.int16).copy_(rounded)
    lower.copy_(bits.sub_(rounded.bitwise_left_shift_(16)))


def joined(upper: Tensor, lower: Tensor) -> Tensor:
    """The float32 numbers whose halves `split` wrote."""
    bits = upper.view(torch.int16).to(torch.int32)
    return bits.bitwise_left_shift_(16).add_(lower).view(torch.float32)


class SplitWeights(Optimizer):
    """Steps of any optimiser on the float32 weights whose upper halves are a model's bfloat16 parameters.

    Trained parameters in float32 are stepped as they are. The state of a parameter is that of its optimiser and
    `lower`, int16, in the parameter's shape. In a step, one parameter at a time exists in float32.
    """

    def __init__(self, groups: Groups, build: Build, learning_rate: float) -> None:
        """An optimiser of its own for each parameter.

        Args:
            groups: Parameters in bfloat16 or float32, with what else a group says.
            build: Makes the optimiser of float32 parameters; a step of it may not mix parameters.
            learning_rate: The rate of all groups until a schedule changes it.
        """
        super().__init__(groups, {"lr": learning_rate})
        self._parts = {
            parameter: _Part(parameter, {name: value for name, value in group.items() if name != "params"}, build)
            for group in groups
            for parameter in group["params"]
        }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._parts[parameter].step(group["lr"])
                    self.state[parameter] = self._parts[parameter].state()

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up a saved state as it is, in its own dtypes; the parameters must have been restored before."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
            for parameter, index in zip(group["params"], saved["params"], strict=True):
                if index in state_dict["state"]:
                    self._parts[parameter].load(state_dict["state"][index])
                    self.state[parameter] = self._parts[parameter].state()


class _Part:
    """One parameter, or this rank's part of it: its lower half, and the optimiser of the whole float32 numbers.

    The float32 data exist only within a step. State is handed out sharded as the parameter is.
    """

    def __init__(self, parameter: Parameter, group: Mapping[str, Any], build: Build) -> None:
        self.parameter = parameter
        self.is_split = parameter.dtype is torch.bfloat16
        self.whole = Parameter(own_part(parameter.detach()).float()) if self.is_split else parameter
        self.optimizer = build([{**group, "params": [self.whole]}])
        if self.is_split:
            self.lower = torch.zeros_like(self.whole, dtype=torch.int16, requires_grad=False)
            self.whole.data = self.whole.new_empty(0)

    def step(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
        if not self.is_split:
            self.optimizer.step()
            return
        gradient = self.parameter.grad
        upper = own_part(self.parameter.detach())
        self.whole.data = joined(upper, self.lower)
        self.whole.grad = own_part(gradient).float() if gradient is not None else None
        self.optimizer.step()
        self.whole.grad = None  # makes room
        split(self.whole.data, upper, self.lower)
        self.whole.data = self.whole.new_empty(0)

    def state(self) -> dict[str, Any]:
        state = dict(self.optimizer.state[self.whole])
        if not self.is_split:
            return state
        state["lower"] = self.lower
        shape = self.lower.shape
        return {
            name: part_made_of(value, like=self.parameter)
            if isinstance(value, Tensor) and value.shape == shape
            else value
            for name, value in state.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        own = {name: value for name, value in state.items() if name != "lower"}
        if self.is_split:
            self.lower.copy_(own_part(state["lower"]))
            own = {name: own_part(value) if isinstance(value, Tensor) else value for name, value in own.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {0: own} if own else {}})
