"""Weights of 4 bits through bitsandbytes: how a model is loaded so, and how it becomes one of whole weights again.

Only adapters learn over such weights (QLoRA, Dettmers et al. 2023, arXiv:2305.14314). bitsandbytes is an extra; without
it the command that installs it is named. Left out: training (`training/`), other kinds of quantisation. Floor 3.
"""

import copy
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fairplay.errors import ResourceError
from fairplay.models.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def quantisation(settings: ModelSettings) -> "BitsAndBytesConfig":
    """What transformers is told to load a model in 4 bits.

    Raises:
        ResourceError: If bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ResourceError(
            "load_in_4bit: weights of 4 bits need the package bitsandbytes", hint="pip install 'fairplay[qlora]'"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels that it would like to have
    from transformers import BitsAndBytesConfig

    config: BitsAndBytesConfig = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=getattr(torch, settings.bnb_4bit_compute_dtype or settings.dtype),
    )
    return config


def is_quantised(model: nn.Module) -> bool:
    """Whether some weights of the model are of 4 bits."""
    return any(is_quantised_weight(parameter) for parameter in model.parameters())


def is_quantised_weight(parameter: Tensor) -> bool:
    """Whether the numbers of this parameter are codes of 4 bits."""
    return getattr(parameter, "quant_state", None) is not None


def keep_packing(model: nn.Module) -> None:
    """Keep bitsandbytes from packing weights anew for a faster forward pass on some CPUs: it has no backward pass."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def state_bytes(parameter: Tensor) -> int:
    """Bytes of the scales that go with a weight of 4 bits; 0 for any other."""
    state: Any = getattr(parameter, "quant_state", None)
    total = 0
    while state is not None:
        total += state.absmax.nbytes + state.code.nbytes
        state = state.state2
    return total


def largest_whole(model: nn.Module) -> int:
    """Bytes of the largest weight of 4 bits once its numbers are written out, as they are for each product."""
    states: list[Any] = [getattr(p, "quant_state", None) for p in model.parameters()]
    return max((state.shape.numel() * state.dtype.itemsize for state in states if state is not None), default=0)


def whole_copy(model: "PreTrainedModel") -> "PreTrainedModel":
    """A copy of the model with all of its weights whole, adapters merged, in the dtype of its other weights.

    The weights are those that it computes with: what rounding to 4 bits has lost stays lost, and what adapters learned
    is added in float32 instead of being rounded again.

    Args:
        model: A model with weights of 4 bits, with or without adapters; it is not changed.
    """
    whole: Any = copy.deepcopy(model)
    for name, module in list(whole.named_modules()):
        base = getattr(module, "base_layer", module)
        if not is_quantised_weight(getattr(base, "weight", torch.empty(0))) or name.endswith("base_layer"):
            continue
        weight = _values(base.weight)
        for adapter in getattr(module, "active_adapters", ()):
            if adapter in module.lora_A:
                weight += module.get_delta_weight(adapter).float()
        whole.set_submodule(name, _linear(weight.to(model.dtype), base.bias))
    if hasattr(whole, "merge_and_unload"):
        whole = whole.merge_and_unload()
    whole.hf_quantizer.remove_quantization_config(whole)
    plain: PreTrainedModel = whole
    return plain


def _values(weight: Any) -> Tensor:
    """The numbers that codes stand for, float32."""
    from bitsandbytes.functional import dequantize_4bit

    values: Tensor = dequantize_4bit(weight.data, weight.quant_state).float()
    return values


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().to(weight.dtype), requires_grad=False)
    return linear
