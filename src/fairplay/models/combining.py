"""Policies made of others without training: a weighted sum of weights, for averages and for extrapolation.

Left out: mixtures, which keep their members apart (`generation/mixture.py`). Floor 3.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import torch

from fairplay.errors import DataError, SettingsError
from fairplay.models.loading import Policy, load_policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.wording import plural


def extrapolation(alpha: float) -> tuple[float, float]:
    """Weights of (start, aligned) in start + (1 + alpha) (aligned - start).

    Args:
        alpha: How far beyond the aligned policy, >= 0, as a share of the way from the start; 0.1 to 0.5 published.

    Raises:
        SettingsError: If alpha is no number at or above 0.

    Source: ExPO, Zheng et al. 2024, arXiv:2404.16792.
    """
    if not (isfinite(alpha) and alpha >= 0):
        raise SettingsError(f"alpha: {alpha} is not a number at or above 0", hint="0.1 to 0.5 is usual")
    return -alpha, 1 + alpha


def check_weights(weights: Sequence[float], num_models: int) -> None:
    """Refuse weights that are not one a model, or don't add up to 1.

    Raises:
        SettingsError: If so.
    """
    if num_models < 2:
        raise SettingsError(f"{num_models} model: combining takes at least 2")
    if len(weights) != num_models:
        raise SettingsError(f"{plural(len(weights), 'weight')} for {plural(num_models, 'model')}")
    if not all(map(isfinite, weights)) or abs(sum(weights) - 1) > 1e-6:
        raise SettingsError(f"weights {', '.join(f'{weight:g}' for weight in weights)} do not add up to 1")


def combine_policies(sources: Sequence[str], weights: Sequence[float], folder: Path, settings: ModelSettings) -> None:
    """Save the weighted sum of some policies' weights as a policy of its own; adapters are merged first.

    One model and one sum in float32 are in memory at a time, whatever the number of policies.

    Args:
        sources: Folders or hub ids; the tokenizer and the configuration of the last one are kept.
        weights: One a policy, summing to 1; a negative one extrapolates.
        folder: Where the result goes, in the dtype of `settings`.
        settings: How the policies are loaded.

    Raises:
        SettingsError: If the weights don't fit.
        DataError: If the policies don't have the same parameters and vocabulary.
    """
    check_weights(weights, len(sources))
    total: dict[str, torch.Tensor] = {}
    policy: Policy | None = None
    for source, weight in zip(sources, weights, strict=True):
        policy = load_policy(source, settings)
        state = {name: tensor.detach() for name, tensor in policy.model.state_dict().items()}
        if total:
            _refuse_other(sources[0], total, source, state)
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                continue
            part = weight * tensor.to(torch.float32).cpu()
            total[name] = total[name] + part if name in total else part
        del state
    assert policy is not None
    with torch.no_grad():
        for name, tensor in policy.model.state_dict().items():
            if name in total:
                tensor.copy_(total[name])
    save_policy(policy, folder)


def _refuse_other(first: str, total: dict[str, torch.Tensor], source: str, state: dict[str, torch.Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    expected = {name: tuple(tensor.shape) for name, tensor in total.items()}
    if shapes == expected:
        return
    name = next(name for name in sorted(expected | shapes) if expected.get(name) != shapes.get(name))
    raise DataError(
        f"{source} and {first}: `{name}` is {shapes.get(name, 'missing')} and {expected.get(name, 'missing')}",
        hint="policies of one training can be combined",
    )
