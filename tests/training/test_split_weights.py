"""A bfloat16 model is trained as if its weights were float32, with every optimiser, whatever interrupts it."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairplay.training.checkpoints import Trainee, newest_checkpoint, restore_checkpoint, save_checkpoint
from fairplay.training.optimizers import OPTIMIZERS, build_optimizer, build_schedule
from fairplay.training.settings import TrainingSettings
from fairplay.training.split_weights import joined, split
from models.tiny import make_model

NUM_STEPS = 8
floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126)


def halves(whole):
    upper, lower = torch.empty_like(whole, dtype=torch.bfloat16), torch.empty_like(whole, dtype=torch.int16)
    split(whole.clone(), upper, lower)
    return upper, lower


@given(st.lists(floats, min_size=1))
def test_the_two_halves_are_the_number_bit_for_bit(numbers):
    whole = torch.tensor(numbers, dtype=torch.float32)
    assert torch.equal(joined(*halves(whole)).view(torch.int32), whole.view(torch.int32))


@given(st.lists(floats, min_size=1))
def test_the_upper_half_is_the_nearest_bfloat16(numbers):
    whole = torch.tensor(numbers, dtype=torch.float32)
    distance = (halves(whole)[0].double() - whole.double()).abs()
    assert torch.equal(distance, (whole.bfloat16().double() - whole.double()).abs())


def weights():
    """A matrix large enough for torchao to quantise its state, and a vector; both are bfloat16 numbers."""
    torch.manual_seed(0)
    return [(0.02 * torch.randn(64, 128)).bfloat16(), torch.ones(128).bfloat16()]


def trainee(parameters, **settings):
    chosen = TrainingSettings(**{"learning_rate": 1e-4, "weight_decay": 0.1, **settings})
    model = torch.nn.ParameterList(parameters)
    optimizer = build_optimizer(model, chosen)
    return Trainee(model, optimizer, build_schedule(optimizer, chosen, NUM_STEPS))


def advance(state, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in state.model:
            gradient = torch.randn(parameter.shape, generator=generator).bfloat16()
            parameter.grad = gradient.to(parameter.dtype)
        state.optimizer.step()
        state.schedule.step()


def whole_of(state):
    return [joined(p.data, state.optimizer.state[p]["lower"]) for p in state.model]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_takes_the_steps_of_a_float32_training_bit_for_bit(name):
    in_float32 = trainee([w.float() for w in weights()], optim=name)
    in_bfloat16 = trainee(weights(), optim=name)
    advance(in_float32, 0, NUM_STEPS)
    advance(in_bfloat16, 0, NUM_STEPS)
    for whole, shown, expected in zip(whole_of(in_bfloat16), in_bfloat16.model, in_float32.model, strict=True):
        assert torch.equal(whole, expected)
        assert torch.equal(shown, halves(expected.data)[0])
        assert not torch.equal(whole, whole.bfloat16().float())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_goes_on_bit_for_bit_from_a_checkpoint(name, tmp_path):
    unbroken, first, second = (trainee(weights(), optim=name) for _ in range(3))
    advance(unbroken, 0, NUM_STEPS)
    advance(first, 0, 5)
    save_checkpoint(tmp_path, 5, first, fingerprint="f", counters={}, reference={})
    restore_checkpoint(newest_checkpoint(tmp_path), second, fingerprint="f")
    advance(second, 5, NUM_STEPS)
    for resumed, expected in zip(whole_of(second), whole_of(unbroken), strict=True):
        assert torch.equal(resumed, expected)


def test_a_parameter_in_float32_beside_others_in_bfloat16_is_stepped_as_it_is():
    matrix, vector = weights()
    mixed = trainee([matrix, vector.float()])
    in_float32 = trainee([matrix.float(), vector.float()])
    advance(mixed, 0, 3)
    advance(in_float32, 0, 3)
    assert torch.equal(mixed.model[1], in_float32.model[1])
    assert "lower" not in mixed.optimizer.state[mixed.model[1]]


def test_a_parameter_without_a_gradient_stays():
    state = trainee(weights(), warmup_ratio=0.0, learning_rate=1e-3)
    state.model[0].grad = torch.ones_like(state.model[0])
    state.optimizer.step()
    assert torch.equal(state.model[1], weights()[1])
    assert not torch.equal(state.model[0], weights()[0])


def loss_of(model, ids):
    return model(input_ids=ids, labels=ids).loss


def advance_model(model, optimizer, ids, num_steps):
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss_of(model, ids).backward()
        optimizer.step()


def test_at_a_rate_of_5e_7_a_bfloat16_model_follows_the_float32_one_where_plain_adamw_stands_still():
    start = make_model("llama").bfloat16()
    ids = torch.randint(0, start.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(1))
    settings = TrainingSettings(optim="adamw_torch", learning_rate=5e-7)
    in_float32, in_bfloat16, plain = copy.deepcopy(start).float(), copy.deepcopy(start), copy.deepcopy(start)
    advance_model(in_float32, build_optimizer(in_float32.parameters(), settings), ids, 200)
    split_adamw = build_optimizer(in_bfloat16.parameters(), settings)
    advance_model(in_bfloat16, split_adamw, ids, 200)
    advance_model(plain, torch.optim.AdamW(plain.parameters(), lr=5e-7, weight_decay=0.0), ids, 200)
    whole = copy.deepcopy(start).float()
    with torch.no_grad():
        for parameter, shown in zip(whole.parameters(), in_bfloat16.parameters(), strict=True):
            parameter.copy_(joined(shown, split_adamw.state[shown]["lower"]))
        before, expected, reached, still = (
            loss_of(model.float(), ids).item() for model in (start, in_float32, whole, plain)
        )
    assert before - expected > 5e-3
    assert before - reached == pytest.approx(before - expected, rel=0.01)
    assert before - still < 0.05 * (before - expected)
