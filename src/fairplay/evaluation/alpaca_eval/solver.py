"""Many small L1 logistic regressions at once, to their exact optimum: proximal Newton in three dimensions.

    minimise over w   sum_i s_i * [log(1 + exp(x_i w)) - y_i * x_i w]  +  penalty * |w|_1

Left out: what the rows mean (`length_model`). Floor 5; pure numpy, deterministic, no random choice of coordinates.
"""

from dataclasses import dataclass
from itertools import product
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_COEFFICIENTS = 3

_PATTERNS = np.array(sorted(product((-1.0, 0.0, 1.0), repeat=NUM_COEFFICIENTS), key=lambda p: p.count(0.0)))
_MAX_STEPS = 500
_MAX_ROUGH_STEPS = 20
_NEAR = 1e-3
"""Steps are made in single precision until one moves no row's log-odds further than this, then in double."""

_BOLDNESS = 3.0
"""Steps in single precision are shortened from here: seldom needed, and no harm where it does not converge."""

_TINY = 1e-11


@dataclass(frozen=True)
class Curvature:
    """First and second derivatives of the smooth part.

    Attributes:
        gradients: [models, fits, 3].
        hessians: [models, fits, 3, 3], positive semi-definite.
    """

    gradients: Floats
    hessians: Floats


class Smooth(Protocol):
    """The smooth part of the objectives of some models."""

    def curvature(self, coefficients: Floats) -> Curvature:
        """Derivatives at the coefficients, [models, fits, 3]."""

    def only(self, kept: NDArray[np.int64]) -> Self:
        """The same for some of the models."""

    def in_single_precision(self) -> Self:
        """The same, to about six digits."""


def minimise(smooth: Smooth, start: Floats, *, penalties: Floats, reach: Floats, last_step: float) -> Floats:
    """The minimiser of each fit.

    A step solves the quadratic model with its L1 term exactly. Where it may change a row's log-odds by d > 1 it is
    shortened by ln(1 + d) / d; either way the objective falls, from any start, and convergence is quadratic. Steps in
    single precision come first, at a third of the cost; where they lead nowhere, double precision begins at the start.

    Args:
        smooth: The smooth part.
        start: Where to begin, [models, fits, 3].
        penalties: Weight of |w|_1, > 0, [models, fits].
        reach: Largest absolute value of each feature, [models, 3]; bounds how far a step moves any row.
        last_step: A step that moves no row's log-odds further than this is the last; what remains is about its square.

    Returns:
        Coefficients, [models, fits, 3]; a coefficient that L1 removes is exactly 0.

    Source: proximal Newton: Lee, Sun and Saunders 2014; step length: Sun and Tran-Dinh 2019, generalised
        self-concordance with nu = 2 (logistic loss): f(x + s) <= f(x) + g s + |s|_H^2 (e^d - d - 1) / d^2.
    """
    bold = _Bounds(penalties, reach / _BOLDNESS)
    rough, near = _descend(
        smooth.in_single_precision(), start, bold, last_step=_NEAR / _BOLDNESS, num_steps=_MAX_ROUGH_STEPS
    )
    begin = np.where(near[:, None, None], rough, start)
    found, there = _descend(smooth, begin, _Bounds(penalties, reach), last_step=last_step, num_steps=_MAX_STEPS)
    if not there.all():
        raise AssertionError(f"the length model did not converge in {_MAX_STEPS} steps")
    return found


@dataclass(frozen=True)
class _Bounds:
    """`penalties` and `reach` as `minimise` has them."""

    penalties: Floats
    reach: Floats


def _descend(
    smooth: Smooth, start: Floats, bounds: _Bounds, *, last_step: float, num_steps: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Steps from the start until all models have made their last or there were so many; which models have, [models]."""
    found, active = start.copy(), np.arange(len(start))
    for _ in range(num_steps):
        now = found[active]
        steps = _steps(smooth.curvature(now), now, bounds.penalties[active])
        distances = (np.abs(steps) * bounds.reach[active][:, None, :]).sum(axis=2)
        damping = np.where(distances > 1, np.log1p(distances) / np.maximum(distances, 1), 1.0)
        found[active] = now + damping[..., None] * steps
        going = distances.max(axis=1) > last_step
        if not going.any():
            active = active[going]
            break
        if 2 * going.sum() <= len(active):  # taking rows apart costs about as much as evaluating them once
            smooth, active = smooth.only(np.flatnonzero(going)), active[going]
    return found, ~np.isin(np.arange(len(start)), active)


def _steps(curvature: Curvature, now: Floats, penalties: Floats) -> Floats:
    """Steps to the minimiser of each quadratic model plus L1.

    Newton's with the signs and zeros of now where that is the minimiser: no sign changes, and the penalty outweighs
    the slope of every coefficient held at 0. Else `_best_pattern`.
    """
    shape = now.shape
    now, gradients = now.reshape(-1, NUM_COEFFICIENTS), curvature.gradients.reshape(-1, NUM_COEFFICIENTS)
    hessians = curvature.hessians.reshape(-1, NUM_COEFFICIENTS, NUM_COEFFICIENTS)
    sizes = hessians[:, 0, 0] + hessians[:, 1, 1] + hessians[:, 2, 2]
    hessians = hessians + _TINY * (1 + sizes)[:, None, None] * np.eye(NUM_COEFFICIENTS)
    penalties = penalties.reshape(-1, 1)
    signs = np.sign(now)
    free = signs != 0
    slopes = gradients + penalties * signs
    if free.all():
        steps = -_solved(hessians, slopes)
        turning = np.sign(now + steps) != signs
    else:
        held = np.where(free[:, :, None] & free[:, None, :], hessians, np.eye(NUM_COEFFICIENTS))
        steps = -_solved(held, np.where(free, slopes, 0.0))
        after = gradients + (hessians @ steps[:, :, None])[:, :, 0]
        turning = np.where(free, np.sign(now + steps) != signs, np.abs(after) > penalties)
    some = np.flatnonzero(turning.any(axis=1))
    if len(some):
        steps[some] = _best_pattern(now[some], gradients[some], hessians[some], penalties[some, 0])
    return steps.reshape(shape)


def _solved(matrices: Floats, sides: Floats) -> Floats:
    """Solutions of symmetric positive definite 3 x 3 systems, by Cholesky's method written out (far faster in bulk)."""
    a, b, c = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 0, 2]
    d, e, f = matrices[:, 1, 1], matrices[:, 1, 2], matrices[:, 2, 2]
    factor_b, factor_c = b / a, c / a
    pivot_d = d - factor_b * b
    rest_e = e - factor_b * c
    factor_e = rest_e / pivot_d
    pivot_f = f - factor_c * c - factor_e * rest_e
    u = sides[:, 0]
    v = sides[:, 1] - factor_b * u
    w = (sides[:, 2] - factor_c * u - factor_e * v) / pivot_f
    v = v / pivot_d - factor_e * w
    return np.stack([u / a - factor_b * v - factor_c * w, v, w], axis=1)


def _best_pattern(now: Floats, gradients: Floats, hessians: Floats, penalties: Floats) -> Floats:
    """The exact minimiser, by trying all 27 patterns of signs and zeros: it is the best of their stationary points."""
    free = _PATTERNS != 0
    both = free[:, :, None] & free[:, None, :]
    systems = np.where(both, hessians[:, None], np.eye(NUM_COEFFICIENTS))
    sides = np.einsum("nij,nj->ni", hessians, now) - gradients
    sides = np.where(free, sides[:, None] - penalties[:, None, None] * _PATTERNS, 0.0)
    # A coefficient held at zero adds nothing to the other rows, so the systems of the free ones stand alone.
    shape = sides.shape
    targets = _solved(systems.reshape(-1, NUM_COEFFICIENTS, NUM_COEFFICIENTS), sides.reshape(-1, NUM_COEFFICIENTS))
    steps = targets.reshape(shape) - now[:, None]
    values = np.einsum("nki,ni->nk", steps, gradients) + 0.5 * np.einsum("nki,nij,nkj->nk", steps, hessians, steps)
    values = values + penalties[:, None] * np.abs(targets.reshape(shape)).sum(axis=2)
    best = values.argmin(axis=1)
    return np.asarray(steps[np.arange(len(now)), best])
