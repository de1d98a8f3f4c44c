"""How benchmarks' questions are answered, as the papers state it: by benchmark, and by family of models.

Left out: generation. Floor 5; pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fairplay.errors import SettingsError
from fairplay.lookup import lookup, nearest_hint


@dataclass(frozen=True, slots=True)
class Decoding:
    """Sampling: 0 is greedy; `max_new_tokens` cuts."""

    temperature: float
    top_p: float
    max_new_tokens: int


_SUMMARIES = {
    "sampo-pythia": Decoding(0.0, 1.0, 256),
    "sampo-llama3": Decoding(0.8, 0.95, 1024),
    "sampo-tulu2": Decoding(0.8, 0.95, 1024),
}

FAMILIES: Mapping[str, Mapping[str, Decoding]] = MappingProxyType(
    {
        "alpaca-eval": {
            "sppo": Decoding(0.7, 0.9, 2048),
            "simpo-mistral-base": Decoding(0.7, 1.0, 2048),
            "simpo-mistral-instruct": Decoding(0.5, 1.0, 2048),
            "simpo-llama3": Decoding(0.9, 1.0, 4096),
        },
        "hh": _SUMMARIES,
        "tldr": _SUMMARIES,
        "arena-hard": {},
        "mt-bench": {},
    }
)
"""Families by benchmark; those with none have one decoding for all.

Source: SPPO: Wu et al. 2024, arXiv:2405.00675 and its repository; SimPO: princeton-nlp/SimPO, eval/alpacaeval2/configs;
SamPO: Lu et al. 2024, arXiv:2406.10957, appendix B. Another decoding moves AlpacaEval's numbers by points.
"""

_ARENA_HARD = Decoding(0.0, 1.0, 4096)  # princeton-nlp/SimPO, eval/arenahard/configs; arena-hard-auto's own default
_MT_BENCH_TOKENS = 1024  # FastChat, llm_judge/gen_model_answer.py
_MT_BENCH_TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
_MT_BENCH_ELSE = 0.7  # FastChat, llm_judge/common.py


def decoding_of(benchmark: str, family: str, category: str = "") -> Decoding:
    """How a question of a benchmark is answered by a family's models.

    Args:
        benchmark: A name in `FAMILIES`.
        family: A name in that benchmark's row, where it has any.
        category: Of the question, for MT-Bench, which sets the temperature by it.

    Raises:
        SettingsError: If there is no such benchmark or family.
    """
    families = lookup(FAMILIES, benchmark, "benchmark")
    if benchmark == "mt-bench":
        return Decoding(_MT_BENCH_TEMPERATURES.get(category, _MT_BENCH_ELSE), 1.0, _MT_BENCH_TOKENS)
    if not families:
        return _ARENA_HARD
    if family not in families:
        raise SettingsError(f"{benchmark}: no decoding of the family `{family}`", hint=nearest_hint(family, families))
    return families[family]
