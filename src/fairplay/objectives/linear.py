"""Factors, shifts and sums that cost nothing where they change nothing: each operation on a few numbers has its price.

Left out: everything about preferences. Floor 2, below all other files of `objectives/`.
"""

from torch import Tensor


def scaled(factor: Tensor | float, values: Tensor) -> Tensor:
    """Factor * values; a factor of 1 costs nothing, and most are."""
    return values if isinstance(factor, float) and factor == 1.0 else factor * values


def shifted(values: Tensor, by: Tensor | float, sign: int = 1) -> Tensor:
    """Values + sign * by; a shift of 0 costs nothing."""
    if isinstance(by, float) and by == 0.0:
        return values
    return values.add(by, alpha=sign)


def combined(factors: tuple[float, float], values: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of factor * value; one that is 0 costs nothing, and not both are."""
    first, second = factors
    if not first:
        return scaled(second, values[1])
    weighed = scaled(first, values[0])
    return weighed.add(values[1], alpha=second) if second else weighed
