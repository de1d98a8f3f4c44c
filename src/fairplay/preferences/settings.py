"""What selection may be asked for: which responses become training examples, and by which probabilities.

Left out: the mathematics behind the names (`win_matrix.py`, `win_rates.py`, `selection.py`). Floor 2; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from fairplay.errors import SettingsError
from fairplay.lookup import lookup

KINDS: Mapping[str, str] = {
    "all": "all K responses with their win rates (SPPO, Algorithm 1); the pair (best, worst) is marked for metrics",
    "best-worst": "the response with the highest win rate against the one with the lowest (SPPO's released code)",
    "best-second": "the response with the highest win rate against the second highest (COMAL's released code)",
    "best-random": "the response with the highest win rate against others drawn at random",
    "top-margin": "the pairs of which the oracle is most sure",
    "given-random": "the data's own response against one of the policy's, drawn at random (SPIN); the oracle has no "
    "say, and `prompts.data` must have responses",
    "nash-weighted": "a response drawn from the von Neumann winner of the K against the one that it beats most surely",
}

GIVEN = "given-random"
"""The kind that learns from the data's own responses."""

SEVERAL_PAIRS = frozenset({"best-random", "top-margin", "nash-weighted"})
"""Kinds that can give more than one pair a prompt."""

RULES: Mapping[str, str] = {
    "calibrated": "sigmoid(d / T), d = (L_ij - L_ji) / 2: the pair ranker's own probability, both orders averaged",
    "raw-table": "sigmoid(2 d / T): the formula of the SPPO paper read with pair logits; twice as sharp",
    "sppo-code": "sigmoid((s_i - s_j) / T), s_i = mean_k (L_ik - L_ki): SPPO's released code; erases cycles",
}

OPPONENTS: Mapping[str, str] = {
    "leave-one-out": "mean over the other K - 1 responses; unbiased",
    "with-self": "mean over all K, a response against itself counting 1/2; shrunk by (K - 1) / K",
}


@dataclass(frozen=True, slots=True)
class SelectionSettings:
    """How preferences become training examples.

    Attributes:
        kind: A name in `KINDS`.
        rule: How pair logits become win probabilities, a name in `RULES`.
        opponents: Against whom a win rate is taken, a name in `OPPONENTS`. Leave-one-out is right for `all`;
            with-self happens to cancel the winner's curse of `best-worst` (measured on 20,000 Bradley-Terry prompts at
            K = 5: truth .706, with-self .713, leave-one-out .766).
        num_pairs: Pairs a prompt; more than 1 for the kinds in `SEVERAL_PAIRS` only.
        min_margin: The smallest margin that is kept, in [0, 1]: for `top-margin` and `nash-weighted` P(chosen beats
            rejected) - P(rejected beats chosen); for the others the difference of the two win rates. Ties are never
            kept.
    """

    kind: str = "all"
    rule: str = "calibrated"
    opponents: str = "leave-one-out"
    num_pairs: int = 1
    min_margin: float = 0.0

    def __post_init__(self) -> None:
        lookup(KINDS, self.kind, "selection kind")
        lookup(RULES, self.rule, "probability rule")
        lookup(OPPONENTS, self.opponents, "choice of opponents")
        if self.num_pairs < 1:
            raise SettingsError(f"selection.num_pairs: {self.num_pairs} is less than 1")
        if self.num_pairs > 1 and self.kind not in SEVERAL_PAIRS:
            raise SettingsError(
                f"selection.num_pairs: `{self.kind}` gives one example a prompt, not {self.num_pairs}",
                hint=f"use one of {', '.join(sorted(SEVERAL_PAIRS))} for several pairs a prompt",
            )
        if not (isfinite(self.min_margin) and 0 <= self.min_margin <= 1):
            raise SettingsError(f"selection.min_margin: {self.min_margin} is not within [0, 1]")
