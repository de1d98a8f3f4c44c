"""A step never asks the device for a number, for any objective: host and device run on side by side.

On a CPU nothing waits, so the operations that would on a GPU are refused while a step runs: a tensor read as a number,
and results whose size depends on values. Planning in numpy is free. The one exception is `guard.check_finite`, once.
"""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fairplay.objectives.table import OBJECTIVES, build_objective
from fairplay.training.metrics import MetricWindow
from fairplay.training.reading import Reading
from training import test_stepping

scored = test_stepping.scored
IN_TWO = ((5, 1, 0, 2), (6, 3, 4))
WAITING = {
    *("_local_scalar_dense", "_unique", "_unique2", "bincount", "equal", "is_nonzero", "item", "masked_select"),
    *("nonzero", "unique_consecutive", "unique_dim"),
}
READ_OUT = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}


class Waits(AssertionError):
    """A GPU would be waited for here."""


class RefusesOperations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8)
            for part in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        by_counts = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in WAITING or by_mask or by_counts:
            raise Waits(str(func))
        return func(*args, **kwargs)


class RefusesReading(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in READ_OUT:
            raise Waits(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def reading():
    return Reading(longest=96, bf16=False)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_step_waits_for_the_device(name, scored, reading):
    learner = test_stepping.learner_of(build_objective(name, {}), scored, shift=0.1)
    learner = replace(learner, reading=reading)
    parameters = list(learner.model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, fused=True)
    window = MetricWindow(parameters[0].device)
    reading.layout(learner.model)
    state = learner.objective.initial_state
    with RefusesReading(), RefusesOperations():
        for number in range(2 if state else 1):  # the second one's state comes from a model
            outcome = learner.accumulate(IN_TWO, number=number, epoch=0, state=state, window=window)
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
            optimizer.step()
            optimizer.zero_grad()
            state = outcome.state
    assert torch.isfinite(outcome.loss)


VALUES = torch.tensor([3.0, 0.0, 1.0])
COUNTS = torch.tensor([1, 2, 0])
WAITERS = {
    "item": lambda: VALUES.sum().item(),
    "float": lambda: float(VALUES[0]),
    "bool": lambda: bool((VALUES > 0).all()),
    "if": lambda: 1 if VALUES[0] > VALUES[1] else 0,
    "tolist": VALUES.tolist,
    "numpy": lambda: VALUES.numpy(force=True),
    "cpu": VALUES.cpu,
    "nonzero": VALUES.nonzero,
    "by a mask": lambda: VALUES[VALUES > 0],
    "into a mask": lambda: VALUES.clone().__setitem__(VALUES > 0, VALUES.new_ones(2)),
    "masked_select": lambda: VALUES.masked_select(VALUES > 0),
    "unique": COUNTS.unique,
    "bincount": lambda: COUNTS.bincount(minlength=3),
    "repeated": lambda: VALUES.repeat_interleave(COUNTS),
    "equal": lambda: torch.equal(VALUES, VALUES),
}


@pytest.mark.parametrize("name", WAITERS)
def test_whatever_waits_is_noticed(name):
    with pytest.raises(Waits), RefusesReading(), RefusesOperations():
        WAITERS[name]()
