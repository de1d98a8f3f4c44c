"""Every optimiser and schedule of the tables learns, and goes on bit for bit from a checkpoint."""

import sys

import pytest
import torch

from fairplay.errors import DataError, ResourceError, SettingsError
from fairplay.models.settings import ModelSettings
from fairplay.training.checkpoints import Trainee, newest_checkpoint, restore_checkpoint, save_checkpoint
from fairplay.training.optimizers import OPTIMIZERS, build_optimizer, build_schedule
from fairplay.training.settings import OPTIMIZER_NAMES, SCHEDULE_NAMES, TrainingSettings
from fairplay.training.trainable import check_settings

NUM_STEPS = 12


def trainee(**settings):
    torch.manual_seed(0)
    # The first layer is as small as one whose optimiser state torchao quantises: 4096 weights.
    layers = (torch.nn.Linear(4, 1024), torch.nn.Tanh(), torch.nn.LayerNorm(1024), torch.nn.Linear(1024, 1))
    model = torch.nn.Sequential(*layers)
    chosen = TrainingSettings(**{"learning_rate": 1e-2, **settings})
    optimizer = build_optimizer(model.parameters(), chosen)
    return Trainee(model, optimizer, build_schedule(optimizer, chosen, NUM_STEPS))


def advance(state, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(16, 4, generator=generator)
        loss = (state.model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
    return loss.item()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_goes_on_bit_for_bit_from_a_checkpoint(name, tmp_path):
    unbroken = trainee(optim=name, weight_decay=0.1)
    advance(unbroken, 0, NUM_STEPS)
    first = trainee(optim=name, weight_decay=0.1)
    advance(first, 0, 5)
    save_checkpoint(tmp_path, 5, first, fingerprint="f", counters={"tokens": 7}, reference={"logps": torch.ones(2)})
    second = trainee(optim=name, weight_decay=0.1)
    counters, reference = restore_checkpoint(newest_checkpoint(tmp_path), second, fingerprint="f")
    assert (counters, reference["logps"].tolist()) == ({"tokens": 7}, [1.0, 1.0])
    advance(second, 5, NUM_STEPS)
    for expected, resumed in zip(unbroken.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(expected, resumed)


def test_settings_and_table_know_the_same_optimizers():
    assert sorted(OPTIMIZERS) == sorted(OPTIMIZER_NAMES)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_learns(name):
    state = trainee(optim=name, learning_rate=1e-3)
    first = advance(state, 0, 1)
    assert advance(state, 1, NUM_STEPS) < first


@pytest.mark.parametrize(("name", "most"), [("adamw_torch_8bit", 0.30), ("adamw_torch_4bit", 0.20)])
def test_states_of_a_few_bits_are_small_on_disk_too(name, most, tmp_path):
    sizes = {}
    for optim in (name, "adamw_torch"):
        torch.manual_seed(0)
        model = torch.nn.Linear(256, 256, bias=False)
        chosen = TrainingSettings(learning_rate=1e-2, optim=optim)
        optimizer = build_optimizer(model.parameters(), chosen)
        state = Trainee(model, optimizer, build_schedule(optimizer, chosen, NUM_STEPS))
        model(torch.ones(1, 256)).sum().backward()
        optimizer.step()
        path = save_checkpoint(tmp_path / optim, 1, state, fingerprint="f", counters={}, reference={})
        sizes[optim] = (path / "optimizer-0.safetensors").stat().st_size
    assert sizes[name] < most * sizes["adamw_torch"]


def test_the_schedule_of_a_quantised_optimizer_is_that_of_any_other():
    rates = {}
    for optim in ("adamw_torch", "adamw_torch_8bit"):
        state = trainee(optim=optim, lr_scheduler_type="cosine", warmup_ratio=0.25)
        rates[optim] = []
        for _ in range(NUM_STEPS):
            rates[optim].append(float(state.optimizer.param_groups[0]["lr"]))
            state.optimizer.step()
            state.schedule.step()
    assert rates["adamw_torch_8bit"] == pytest.approx(rates["adamw_torch"], rel=1e-7)


def test_a_quantised_optimizer_without_torchao_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(ResourceError, match="torchao") as caught:
        check_settings(TrainingSettings(optim="adamw_torch_8bit"), ModelSettings())
    assert caught.value.hint == "pip install 'fairplay[torchao]'"


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_every_schedule_goes_on_from_a_checkpoint(name, tmp_path):
    arguments = {"min_lr_rate": 0.1} if name == "cosine_with_min_lr" else {}
    settings = {
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": arguments,
        "warmup_ratio": 0.0 if name == "constant" else 0.25,
    }
    unbroken, rates = trainee(**settings), []
    for _ in range(NUM_STEPS):
        rates.append(unbroken.schedule.get_last_lr()[0])
        unbroken.optimizer.step()
        unbroken.schedule.step()
    assert max(rates) == pytest.approx(1e-2)
    first = trainee(**settings)
    for _ in range(6):
        first.optimizer.step()
        first.schedule.step()
    save_checkpoint(tmp_path, 6, first, fingerprint="f", counters={}, reference={})
    second = trainee(**settings)
    restore_checkpoint(newest_checkpoint(tmp_path), second, fingerprint="f")
    for expected in rates[6:]:
        assert second.schedule.get_last_lr()[0] == expected
        assert second.optimizer.param_groups[0]["lr"] == expected
        second.optimizer.step()
        second.schedule.step()


def test_the_rate_falls_linearly_to_a_floor():
    state = trainee(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"lr_end": 1e-3}, warmup_ratio=0.0)
    rates = []
    for _ in range(NUM_STEPS + 1):
        rates.append(state.schedule.get_last_lr()[0])
        state.optimizer.step()
        state.schedule.step()
    assert rates == pytest.approx([1e-2 - 9e-3 * step / NUM_STEPS for step in range(NUM_STEPS + 1)])


def test_an_argument_the_schedule_does_not_take_is_refused():
    with pytest.raises(SettingsError, match="lr_scheduler_kwargs"):
        trainee(lr_scheduler_kwargs={"floor": 0.1})


def test_biases_and_norms_are_not_decayed():
    state = trainee(weight_decay=0.1)
    decays = {p.ndim: group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    assert decays == {1: 0.0, 2: 0.1}


def test_only_the_newest_two_checkpoints_are_kept(tmp_path):
    state = trainee()
    for step in (2, 10, 9):
        save_checkpoint(tmp_path, step, state, fingerprint="f", counters={}, reference={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-9"]
    assert newest_checkpoint(tmp_path).name == "step-10"


@pytest.mark.parametrize("file", ["weights-0.safetensors", "optimizer-0.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_half_written_checkpoint_is_never_picked_up(file, damage, tmp_path):
    state = trainee()
    advance(state, 0, 1)
    save_checkpoint(tmp_path, 1, state, fingerprint="f", counters={}, reference={})
    save_checkpoint(tmp_path, 2, state, fingerprint="f", counters={}, reference={})
    target = tmp_path / "step-2" / file
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:-3])
    assert newest_checkpoint(tmp_path).name == "step-1"
    with pytest.raises(DataError, match="incomplete"):
        restore_checkpoint(tmp_path / "step-2", state, fingerprint="f")


def test_a_temporary_folder_is_no_checkpoint(tmp_path):
    (tmp_path / ".step-3.partial").mkdir()
    (tmp_path / "step-x").mkdir()
    assert newest_checkpoint(tmp_path) is None


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    state = trainee()
    path = save_checkpoint(tmp_path, 1, state, fingerprint="f", counters={}, reference={})
    with pytest.raises(DataError, match="belongs to a training with other"):
        restore_checkpoint(path, state, fingerprint="g")


def test_only_trained_parameters_are_saved(tmp_path):
    from safetensors.torch import load_file

    state = trainee()
    state.model[0].requires_grad_(requires_grad=False)
    path = save_checkpoint(tmp_path, 1, state, fingerprint="f", counters={}, reference={})
    assert not any(name.startswith("0.") for name in load_file(path / "weights-0.safetensors"))
