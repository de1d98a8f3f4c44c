"""Tiny models of many families, made in memory; float64 that stays float64."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fairplay.models.loading import keep_caps

COMMON = {
    "vocab_size": 384,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 24,
    "layer_types": ["linear_attention", "full_attention"],
}
SSM = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
TWO_WINDOWS = {"layer_types": ["sliding_attention", "full_attention"]}

# name -> (model type, what differs from COMMON)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral", {"sliding_window": 64}),
    "gemma": ("gemma", {}),
    "gemma2 without caps": ("gemma2", {"sliding_window": 64, "attn_logit_softcapping": None, **TWO_WINDOWS}),
    "gemma3": ("gemma3_text", {"sliding_window": 64, **TWO_WINDOWS}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "granite": ("granite", {}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {"sliding_window": 64, **TWO_WINDOWS}),
    "mixtral": ("mixtral", MOE),
    "qwen3_moe": ("qwen3_moe", MOE),
    "gpt_neox": ("gpt_neox", {}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2, **NO_DROPOUT}),
    "opt": ("opt", {"word_embed_proj_dim": 32, "ffn_dim": 48}),
    "deepseek_v3": (
        "deepseek_v3",
        {**MOE, **LATENT, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
         "first_k_dense_replace": 1, "head_dim": None},
    ),
    "deepseek_v3, large values": (
        "deepseek_v3",
        {**MOE, **LATENT, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
         "first_k_dense_replace": 1, "head_dim": None, "v_head_dim": 20},
    ),
}  # fmt: skip
# Families that can't take every layout on a CPU: their attention is not what segments can express.
NOT_PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral, narrow window": ("mistral", {"sliding_window": 8}),
    "gemma2": ("gemma2", {"sliding_window": 64, **TWO_WINDOWS}),
    "gemma3, narrow window": ("gemma3_text", {"sliding_window": 8, **TWO_WINDOWS}),
    "cohere2, narrow window": ("cohere2", {"sliding_window": 8, **TWO_WINDOWS}),
    "bloom": ("bloom", {"n_head": 4, "n_layer": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0}),
    "mamba2": ("mamba2", {"num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 1, "state_size": 8}),
    "qwen3_next": ("qwen3_next", {**MOE, **LINEAR}),
    "falcon_h1": ("falcon_h1", SSM),
    "gpt_oss": ("gpt_oss", {**MOE, "sliding_window": 64, **TWO_WINDOWS}),
}
# A family whose chunks no layer hands to its attention function.
CHUNKED = {
    "llama4, chunks of 24": (
        "llama4_text",
        {**MOE, "attention_chunk_size": 24, "intermediate_size_mlp": 48, "no_rope_layers": [1, 0]},
    )
}


def make(name: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of a family with random weights, large enough that every part of it matters."""
    kind, extra = {**FAMILIES, **NOT_PACKED, **CHUNKED}[name]
    settings = {key: value for key, value in {**COMMON, **extra}.items() if value is not None or "cap" in key}
    config = AutoConfig.for_model(kind, **settings)
    config._experts_implementation = "eager"  # the others take no float64
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        except ValueError:  # no sdpa: its scores are capped, have sinks, or are biased
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    keep_caps(model)
    return model.eval()


class Float64Stays(TorchFunctionMode):
    """Families compute their norms in float32 whatever the weights; here what is float64 stays so."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_double = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64
        casts = func in (torch.Tensor.to, torch.Tensor.type) and torch.float32 in args[1:]
        if is_double and (casts or func is torch.Tensor.float):
            return args[0]
        if is_double and kwargs.get("dtype") == torch.float32:
            kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)


def make_rows(*groups: tuple[int, tuple[int, ...]], seed: int = 1) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Rows of random tokens: for each group the length of its prompt and of each response."""
    generator = torch.Generator().manual_seed(seed)

    def ids(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 380, (size,), generator=generator).tolist())

    drawn = [(ids(prompt), [ids(response) for response in responses]) for prompt, responses in groups]
    return [(prompt, response) for prompt, responses in drawn for response in responses]
