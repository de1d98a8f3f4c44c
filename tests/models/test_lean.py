"""Lean layers compute what the model's own do, and keep less."""

import copy
from functools import partial

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from fairplay.models.adapters import add_adapters
from fairplay.models.lean import LEAN_FROM, lean_layers, lean_mlp, lean_norm
from fairplay.models.loading import Policy
from fairplay.models.settings import AdapterSettings
from fairplay.models.token_logps import score_rows
from models.families import Float64Stays, make

IDS = torch.arange(3, 43).reshape(2, 20)
MANY = 10**9  # tokens
LEAN = ("llama", "qwen2", "qwen3", "mistral", "granite")


def passed(model, *, lean):
    """Hidden states' gradients by parameter, and bytes kept between forward and backward, of tensors of their own."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        if lean:
            with lean_layers(model, num_tokens=MANY):
                hidden = model.base_model(input_ids=IDS, use_cache=False).last_hidden_state
        else:
            hidden = model.base_model(input_ids=IDS, use_cache=False).last_hidden_state
    (hidden * torch.linspace(-1, 1, hidden.shape[-1], dtype=hidden.dtype)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return hidden.detach(), gradients, sum(kept.values())


@pytest.mark.parametrize("family", LEAN)
def test_lean_layers_compute_what_the_model_does_and_keep_less(family):
    model = make(family)
    (own, gradients, of_own), (found, lean, of_lean) = (passed(model, lean=lean) for lean in (False, True))
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)
    check_gradients(lean, gradients, 1e-5)
    assert of_lean < 0.85 * of_own


@pytest.mark.parametrize(("place", "form"), [("mlp", lean_mlp), ("input_layernorm", lean_norm)])
def test_each_lean_form_is_exact_in_float64(place, form):
    part = getattr(make("llama", dtype=torch.float64).model.layers[0], place)
    hidden = torch.sin(torch.arange(3.0 * 5 * 32, dtype=torch.float64)).reshape(3, 5, 32)[..., : part_size(part)]
    results = []
    for compute in (part, partial(form, part)):
        part.zero_grad()
        leaf = hidden.clone().requires_grad_()
        with Float64Stays():
            out = compute(leaf)
        (out * torch.cos(torch.arange(out.numel())).reshape(out.shape)).sum().backward()
        results.append((out, {"input": leaf.grad} | {name: p.grad.clone() for name, p in part.named_parameters()}))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-12, atol=1e-12)
    check_gradients(results[1][1], results[0][1], 1e-12)


def part_size(part):
    return part.gate_proj.in_features if hasattr(part, "gate_proj") else len(part.weight)


def check_gradients(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        size = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance * size)


def test_the_model_is_left_as_it_came_whatever_happens():
    model = make("llama")
    with pytest.raises(IndexError), lean_layers(model, num_tokens=MANY):
        model.base_model(input_ids=IDS + 10**6)
    assert not any("forward" in vars(part) for part in model.modules())


def test_checkpointed_layers_are_not_lean_and_the_others_are():
    model = make("llama").train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with lean_layers(model, num_tokens=MANY):
        assert not any("forward" in vars(part) for part in model.model.layers.modules())
    for layer in model.model.layers[1:]:
        layer.training = False
    with lean_layers(model, num_tokens=MANY):
        assert not any("forward" in vars(part) for part in model.model.layers[0].modules())
        assert "forward" in vars(model.model.layers[1].mlp)
    model.gradient_checkpointing_disable()
    with lean_layers(model, num_tokens=MANY):
        assert "forward" in vars(model.model.norm)


@pytest.mark.parametrize("layout", ["padded", "shared"])
def test_layers_are_lean_from_a_size_of_the_input_on(layout):
    model = make("llama")
    was_lean = []
    model.model.norm.register_forward_pre_hook(lambda norm, _: was_lean.append("forward" in vars(norm)))
    enough = LEAN_FROM // model.config.hidden_size
    for length in (enough - 1, enough):
        ids = [3 + place % 50 for place in range(length)]
        with torch.no_grad():
            score_rows(model, [(ids[:-5], ids[-5:])], tile=5, layout=layout)
    assert was_lean == [False, True]


def test_a_norm_or_mlp_of_another_kind_stays_as_it_is():
    for family in ("gemma", "gpt2"):
        model = make(family)
        with lean_layers(model, num_tokens=MANY):
            assert not any("forward" in vars(part) for part in model.modules())


def test_adapters_learn_the_same_over_lean_layers():
    pytest.importorskip("peft")
    settings = AdapterSettings(lora_r=4, lora_target_modules=("down_proj", "gate_proj", "q_proj"))
    policy = add_adapters(Policy(copy.deepcopy(make("llama")), None, "memory"), settings, seed=0)
    model = policy.model.get_base_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    (own, gradients, _), (found, lean, _) = (passed(model, lean=lean) for lean in (False, True))
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)
    check_gradients(lean, gradients, 1e-5)
