"""The benchmarks by which alignment papers tell what alignment cost, and the number that each of them reports.

Left out: running them (`harness.py`); any other task of the harness runs too and reports its first metric. Floor 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        metric: The reported metric of the harness, such as `acc`.
        filter: The harness's filter of answers, such as `strict-match`; `none` where it has none.
        what: What a table calls the number.
    """

    metric: str
    filter: str
    what: str


BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark("exact_match", "strict-match", "exact match, strict format"),
    "ifeval": Benchmark("inst_level_strict_acc", "none", "instructions followed, strict"),
    "piqa": Benchmark("acc", "none", "accuracy"),
    "mmlu": Benchmark("acc", "none", "accuracy over all questions"),
    "truthfulqa_mc1": Benchmark("acc", "none", "accuracy, one true choice"),
}
"""SamPO's five numbers (Lu et al. 2024, arXiv:2406.10957, table 2) under the harness's task names."""
