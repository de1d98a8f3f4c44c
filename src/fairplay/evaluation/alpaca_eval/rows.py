"""The rows of the length model as arrays, and the derivatives of their weighted log-likelihood.

Left out: penalty and minimisation (`solver`), what the fits are for (`length_model`). Floor 5; pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.alpaca_eval.solver import NUM_COEFFICIENTS, Curvature

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating]

GAMED_WEIGHT = 0.1
"""Weight of a gamed row beside a model's own row of weight 1: lambda = 0.2, shared by the two gamed baselines."""

_NUM_BASIS = 6
_PRODUCT = np.array([[3, 4, 0], [4, 5, 1], [0, 1, 2]])
"""Where the product of features i and j is in the basis (t, d, 1, t t, t d, d d)."""


@dataclass(frozen=True)
class ModelRows:
    """What the length model reads of one evaluated model, in an order that does not depend on its file's.

    Attributes:
        win_probs: P(model beats baseline) = preference - 1, [rows]; NaN where the judge failed.
        gaps: t, [rows], in [-1, 1]; positive where the baseline's response is longer.
        difficulties: d, [rows]; 0 for a variant without them.
    """

    win_probs: Floats
    gaps: Floats
    difficulties: Floats


@dataclass(frozen=True)
class GamedRows:
    """The rows of the two gamed baselines: win_probs, gaps and difficulties as in `ModelRows`, [rows], all judged."""

    win_probs: Floats
    gaps: Floats
    difficulties: Floats


@dataclass(frozen=True)
class LengthModels:
    """Rows of many models side by side, padded to the longest; every fit is a choice of row weights.

    Attributes:
        basis: (t, d, 1, t t, t d, d d), [models, 6, rows]: the features and all products of two; 0 in padding.
        excess: Win probability - 1/2, [models, rows]; 0 where there is none.
        judged: 1 where the row has a verdict, [models, rows].
        present: 1 where the row exists; the prediction covers these, judged or not, [models, rows].
        gamed: The shared rows, if the variant has them: their theta feature is 0.
    """

    basis: Floats
    excess: Floats
    judged: Floats
    present: Floats
    gamed: GamedRows | None

    @property
    def num_models(self) -> int:
        """Number of models side by side."""
        return len(self.basis)

    @property
    def features(self) -> Floats:
        """(t, d, 1), [models, 3, rows]."""
        return self.basis[:, :NUM_COEFFICIENTS]

    def only(self, part: slice) -> "LengthModels":
        """Some of the models."""
        return LengthModels(self.basis[part], self.excess[part], self.judged[part], self.present[part], self.gamed)


def standardised_gaps(baseline_lengths: Floats, lengths: Floats) -> Floats:
    """The length feature t = tanh(gap / s), s the gaps' own standard deviation (n - 1), though they are not centred.

    Returns:
        [rows], positive where the baseline is longer; all 0 where s is 0 or a single row has none (the official code
        divides by zero there).
    """
    gaps = baseline_lengths - lengths
    around = gaps - gaps.mean()
    scale = sqrt(float(around @ around) / (len(gaps) - 1)) if len(gaps) > 1 else 0.0
    return np.tanh(gaps / scale) if scale > 0 else np.zeros_like(gaps)


def length_models(rows: Sequence[ModelRows], gamed: GamedRows | None) -> LengthModels:
    """Put models side by side.

    Args:
        rows: The models, each with at least one row.
        gamed: The shared rows, or None for the variants without them.
    """
    width = max(len(model.win_probs) for model in rows)
    basis, excess = np.zeros((len(rows), _NUM_BASIS, width)), np.full((len(rows), width), np.nan)
    for number, model in enumerate(rows):
        size = len(model.win_probs)
        basis[number, 0, :size], basis[number, 1, :size], basis[number, 2, :size] = model.gaps, model.difficulties, 1.0
        np.subtract(model.win_probs, 0.5, out=excess[number, :size])
    _fill_products(basis)
    judged = np.isfinite(excess)
    excess[~judged] = 0.0
    return LengthModels(basis, excess, judged.astype(np.float64), basis[:, 2].copy(), gamed)


def _fill_products(basis: Floats) -> None:
    """The last three of the basis from the first two, [models, 6, rows]."""
    np.multiply(basis[:, :2], basis[:, :1], out=basis[:, 3:5])
    np.square(basis[:, 1], out=basis[:, 5])


def extended(models: LengthModels, outcomes: Floats) -> LengthModels:
    """One model with rows added at equal lengths and the mean difficulty; they are judged, but not predicted."""
    size, width = len(outcomes), models.basis.shape[2]
    middle = float((models.features[0, 1] * models.present[0]).sum() / models.present[0].sum())
    rows = np.zeros((1, _NUM_BASIS, size))
    rows[0, 1], rows[0, 2] = middle, 1.0
    _fill_products(rows)
    return replace(
        models,
        basis=np.concatenate([models.basis, rows], axis=2),
        excess=np.concatenate([models.excess, outcomes[None] - 0.5], axis=1),
        judged=np.concatenate([models.judged, np.ones((1, size))], axis=1),
        present=np.concatenate([models.present, np.zeros((1, width + size - models.present.shape[1]))], axis=1),
    )


@dataclass(frozen=True)
class WeightedRows:
    """The smooth part of the objective: own rows with their weights, and the gamed rows with theirs.

    Attributes:
        basis, excess: As in `LengthModels`, of these models.
        weights: [models, fits, rows].
        gamed_basis: (t, d, t t, t d, d d), [5, gamed rows].
        gamed_excess: Win probability - 1/2, [gamed rows].
        gamed_weights: [models, fits, gamed rows], or [1, 1, 1] where all are the same.
    """

    basis: AnyFloats
    excess: AnyFloats
    weights: AnyFloats
    gamed_basis: AnyFloats
    gamed_excess: AnyFloats
    gamed_weights: AnyFloats

    @classmethod
    def of(cls, models: LengthModels, weights: Floats, gamed_weights: Floats | None) -> Self:
        """Own rows at their weights; gamed rows at theirs, by default `GAMED_WEIGHT`."""
        gamed = models.gamed or GamedRows(np.empty(0), np.empty(0), np.empty(0))
        t, d = gamed.gaps, gamed.difficulties
        return cls(
            basis=models.basis,
            excess=models.excess,
            weights=weights,
            gamed_basis=np.stack([t, d, t * t, t * d, d * d]),
            gamed_excess=gamed.win_probs - 0.5,
            gamed_weights=np.full((1, 1, 1), GAMED_WEIGHT) if gamed_weights is None else gamed_weights,
        )

    def only(self, kept: NDArray[np.int64]) -> Self:
        """The same for some of the models."""
        return replace(
            self,
            basis=self.basis[kept],
            excess=self.excess[kept],
            weights=self.weights[kept],
            gamed_weights=self.gamed_weights[kept] if self.gamed_weights.size > 1 else self.gamed_weights,
        )

    def in_single_precision(self) -> Self:
        """The same rows as float32: derivatives to about six digits in a third of the time."""
        return replace(self, **{one.name: getattr(self, one.name).astype(np.float32) for one in fields(self)})

    def curvature(self, coefficients: Floats) -> Curvature:
        """Derivatives at the coefficients, [models, fits, 3]."""
        halves = (0.5 * coefficients).astype(self.basis.dtype)
        parts = _derivatives(halves @ self.basis[:, :NUM_COEFFICIENTS], self.excess[:, None], self.weights)
        sums, fits = parts @ self.basis.transpose(0, 2, 1), coefficients.shape[1]
        if len(self.gamed_excess):
            parts = _derivatives(halves[..., :2] @ self.gamed_basis[:2], self.gamed_excess, self.gamed_weights)
            shared = parts @ self.gamed_basis.T
            sums[:, :fits, :2] += shared[:, :fits, :2]
            sums[:, fits:, 3:] += shared[:, fits:, 2:]  # their theta feature is 0, so the products with it are
        sums = sums.astype(np.float64)
        return Curvature(sums[:, :fits, :NUM_COEFFICIENTS], sums[:, fits:][..., _PRODUCT])


def _derivatives(half_logits: AnyFloats, excess: AnyFloats, weights: AnyFloats) -> AnyFloats:
    """Weighted slope, then weighted curvature of each row's loss, [models, 2 x fits, rows]."""
    fits = half_logits.shape[1]
    parts = np.empty((half_logits.shape[0], 2 * fits, half_logits.shape[2]), half_logits.dtype)
    slopes, bends = parts[:, :fits], parts[:, fits:]
    fitted = np.tanh(half_logits, out=half_logits)
    np.multiply(fitted, 0.5, out=slopes)
    np.square(slopes, out=bends)
    slopes -= excess
    np.subtract(0.25, bends, out=bends)
    slopes *= weights
    bends *= weights
    return parts
