"""Settings of language models and their adapters.

Left out: loading (`loading.py`), LoRA itself (`adapters.py`). Imports no torch. Floor 3.
"""

from dataclasses import dataclass

from fairplay.errors import SettingsError
from fairplay.lookup import lookup

DTYPES = {name: name for name in ("float32", "bfloat16", "float16", "float64")}
QUANT_TYPES = {name: name for name in ("nf4", "fp4")}
ATTENTION = {name: name for name in ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is loaded.

    Attributes:
        dtype: Type of the weights: float32, bfloat16, float16 or float64. Trained in bfloat16, weights move as in
            float32 (`training/split_weights.py`); float16 is for all but training.
        attn_implementation: Attention function of transformers; sdpa runs everywhere.
        device: Where the model lives, such as "cpu" or "cuda:1"; empty means cuda if there is one, else the CPU.
        revision: Branch, tag or commit of a hub model; empty means the newest.
        load_in_4bit: Round the weights of all linear layers but the head to 4 bits while loading (QLoRA): an eighth of
            the memory of float32. Only adapters can be trained over them. Needs `fairplay[qlora]`.
        bnb_4bit_quant_type: Which 16 numbers the 4 bits stand for: nf4 (quantiles of a normal distribution) or fp4.
        bnb_4bit_use_double_quant: Keep the scales of blocks in 8 bits: 0.4 bits less for each weight.
        bnb_4bit_compute_dtype: What 4-bit weights are multiplied in; empty means `dtype`.
            Names of these four as in transformers' BitsAndBytesConfig, defaults of the QLoRA paper (arXiv:2305.14314).
    """

    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    device: str = ""
    revision: str = ""
    load_in_4bit: bool = False
    bnb_4bit_quant_type: str = "nf4"
    bnb_4bit_use_double_quant: bool = True
    bnb_4bit_compute_dtype: str = ""

    def __post_init__(self) -> None:
        lookup(DTYPES, self.dtype, "dtype")
        lookup(QUANT_TYPES, self.bnb_4bit_quant_type, "type of 4-bit numbers")
        lookup(DTYPES, self.bnb_4bit_compute_dtype or self.dtype, "dtype")
        of_4bit = (self.bnb_4bit_quant_type, self.bnb_4bit_use_double_quant, self.bnb_4bit_compute_dtype)
        if not self.load_in_4bit and of_4bit != ("nf4", True, ""):
            raise SettingsError(
                "bnb_4bit_*: without effect unless `load_in_4bit: true`", hint="set it, or leave them away"
            )
        if self.load_in_4bit and self.dtype == "float64":
            raise SettingsError("load_in_4bit: bitsandbytes has no float64", hint="set `dtype: bfloat16` or `float32`")
        lookup(ATTENTION, self.attn_implementation, "attention implementation")


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """LoRA adapters (Hu et al. 2021, arXiv:2106.09685), with peft's names.

    Attributes:
        lora_r: Rank.
        lora_alpha: The adapter's output is scaled by lora_alpha / lora_r.
        lora_dropout: Dropout on the adapter's input while training, in [0, 1).
        lora_target_modules: Names of the modules that get an adapter; empty means every linear layer but the head
            (Dettmers et al. 2023, arXiv:2305.14314).
    """

    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.lora_r < 1:
            raise SettingsError(f"lora_r must be at least 1, not {self.lora_r}")
        if not 0.0 <= self.lora_dropout < 1.0:
            raise SettingsError(f"lora_dropout must be in [0, 1), not {self.lora_dropout}")
