import pytest
import torch

from fairplay.errors import DataError, SettingsError
from fairplay.models.combining import combine_policies, extrapolation
from fairplay.models.loading import Policy, load_policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from models.tiny import make_model, make_tokenizer

CPU = ModelSettings(device="cpu")


def saved(folder, *, seed=0, family="llama", **changes):
    torch.manual_seed(seed)
    model = make_model(family, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    save_policy(Policy(model, make_tokenizer("starter"), "memory"), folder)
    return str(folder)


def weights(source):
    return dict(load_policy(source, CPU).model.named_parameters())


def test_the_sum_is_taken_of_every_weight(tmp_path):
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b", seed=1)
    combine_policies([one, other], [0.25, 0.75], tmp_path / "sum", CPU)
    first, second, found = weights(one), weights(other), weights(str(tmp_path / "sum"))
    assert found.keys() == first.keys()
    for name in found:
        torch.testing.assert_close(found[name], 0.25 * first[name] + 0.75 * second[name], rtol=1e-6, atol=1e-6)


def test_extrapolation_goes_on_in_the_direction_of_the_training(tmp_path):
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b", seed=1)
    combine_policies([one, other], extrapolation(0.5), tmp_path / "expo", CPU)
    first, second, found = weights(one), weights(other), weights(str(tmp_path / "expo"))
    for name in found:
        expected = second[name] + 0.5 * (second[name] - first[name])
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-5)


def test_an_average_of_one_policy_with_itself_is_that_policy(tmp_path):
    one = saved(tmp_path / "a")
    combine_policies([one, one], [0.5, 0.5], tmp_path / "same", CPU)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (tmp_path / "a" / "model.safetensors").read_bytes()


def test_what_can_not_be_combined_is_named(tmp_path):
    one, wide = saved(tmp_path / "a"), saved(tmp_path / "b", family="gpt2")
    with pytest.raises(DataError, match="missing"):
        combine_policies([one, wide], [0.5, 0.5], tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match="add up to 1"):
        combine_policies([one, one], [0.5, 0.4], tmp_path / "out", CPU)
    with pytest.raises(SettingsError, match="1 weight for 2 models"):
        combine_policies([one, one], [1.0], tmp_path / "out", CPU)
    with pytest.raises(SettingsError, match="at least 2"):
        combine_policies([one], [1.0], tmp_path / "out", CPU)
    with pytest.raises(SettingsError, match="alpha"):
        extrapolation(-1.0)
