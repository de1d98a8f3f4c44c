"""The model of `joint_strengths`: its rows, its fit, and how the fit's errors are spread, by a jackknife over prompts.

Left out: what the numbers are for (`joint_strengths`). Floor 5; pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.columns import JudgementColumns
from fairplay.evaluation.length_control import LAST_STEP, SLOPE_RIDGE

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Pair = tuple[int, int]

_MAX_STEPS = 500


@dataclass(frozen=True)
class JointDesign:
    """Rows of all pairs, one below the other.

    Attributes:
        features: [rows, strengths + 1]: +1 for the later checkpoint, -1 for the earlier one, the start left out; then
            tanh(length gap / scale).
        excess: P(the later one wins) - 1/2, [rows].
        prompt_index: The prompt of each row, [rows].
        row_weights: Weight of each row within its prompt and pair, [rows].
        pair_index: The pair of each row, [rows].
        pair_features: A row of each pair at equal lengths, [pairs, strengths + 1].
        num_prompts: Prompts that were judged for some pair.
        scale: Length gap that counts as one unit.
    """

    features: Floats
    excess: Floats
    prompt_index: Integers
    row_weights: Floats
    pair_index: Integers
    pair_features: Floats
    num_prompts: int
    scale: float


def joint_design(num_names: int, order: Sequence[Pair], judged: Sequence[JudgementColumns]) -> JointDesign:
    """The rows of the model: the judgements of each pair, in that order."""
    prompts = sorted(set().union(*(columns.prompt_ids for columns in judged)))
    number = {prompt: place for place, prompt in enumerate(prompts)}
    gaps = [columns.policy_lengths - columns.opponent_lengths for columns in judged]
    squares = np.concatenate([columns.prompt_means(gap**2) for columns, gap in zip(judged, gaps, strict=True)])
    scale = float(np.sqrt(squares.mean()))
    pair_index = np.repeat(np.arange(len(order)), [len(gap) for gap in gaps])
    pair_features = np.zeros((len(order), num_names + 1))
    for place, (i, j) in enumerate(order):
        pair_features[place, j], pair_features[place, i] = 1.0, -1.0
    features = pair_features[pair_index]
    features[:, -1] = np.tanh(np.concatenate(gaps) / scale) if scale > 0 else 0.0
    return JointDesign(
        features=features[:, 1:],
        excess=np.concatenate([columns.win_probs for columns in judged]) - 0.5,
        prompt_index=np.concatenate(
            [np.array([number[prompt] for prompt in columns.prompt_ids])[columns.prompt_index] for columns in judged]
        ),
        row_weights=np.concatenate([columns.row_weights for columns in judged]),
        pair_index=pair_index,
        pair_features=pair_features[:, 1:],
        num_prompts=len(prompts),
        scale=scale,
    )


def fit_strengths(design: JointDesign, tie_weights: Floats) -> Floats:
    """Strengths and phi, [strengths + 1], where every pair has a tie at equal lengths besides its judgements.

    Newton's method with the step ln(1 + d) / d, d the furthest that a row's log-odds move, which lowers the loss from
    any start.

    Args:
        design: The rows.
        tie_weights: What the tie of each pair counts, [pairs], > 0; a judged prompt counts 1.

    Source: step: Sun and Tran-Dinh 2019, generalised self-concordance with nu = 2.
    """
    found = np.zeros(design.features.shape[1])
    for _ in range(_MAX_STEPS):
        fitted, tied = _excess(design.features, found), _excess(design.pair_features, found)
        gradient = (design.row_weights * (design.excess - fitted)) @ design.features
        gradient -= (tie_weights * tied) @ design.pair_features + _ridge(design) * found
        step = np.linalg.solve(_hessian(design, tie_weights, fitted, tied), gradient)
        reach = 2 * np.abs(step).max() + np.abs(step[-1])
        found += (np.log1p(reach) / max(reach, np.finfo(np.float64).tiny)) * step
        if reach < LAST_STEP * (1 + np.abs(found).max()):
            return found
    raise AssertionError(f"the joint fit did not converge in {_MAX_STEPS} steps")


def verdict_spread(design: JointDesign, found: Floats) -> Floats:
    """How much a prompt's verdicts vary about the fit beside one letter's, in each pair, [pairs], in (0, 1].

    Half a squared letter is added on both sides: where all prompts agree, nothing is known of it, and it is 1 for wins
    alone and small for ties alone.
    """
    fitted = _excess(design.features, found)
    pairs, prompts = len(design.pair_features), design.num_prompts
    cells = design.pair_index * prompts + design.prompt_index
    errors = np.bincount(cells, design.row_weights * (design.excess - fitted), pairs * prompts)
    letters = np.bincount(design.pair_index, design.row_weights * (0.25 - fitted**2), pairs)
    squares = (errors**2).reshape(pairs, prompts).sum(axis=1)
    return np.asarray(np.minimum(1.0, (squares + 0.5) / (letters + 0.5)))


def jackknife_covariance(design: JointDesign, tie_weights: Floats, found: Floats) -> Floats:
    """Covariance of strengths and phi over new prompts, [strengths + 1, strengths + 1].

    Each prompt is left out once, with all its pairs and samples, and the fit follows in one Newton step; the ties vary
    as Poisson counts of half wins and half losses, independently from pair to pair:

        (C - 1) / C  sum over prompts d d',  d = (H - H_prompt)^-1 g_prompt;   plus   H^-1 (ties) H^-1

    Args:
        design: The rows.
        tie_weights: Weights of the ties behind the fit, [pairs].
        found: The fit, [strengths + 1].

    Source: cluster jackknife (CR3): Bell and McCaffrey 2002; MacKinnon, Nielsen and Webb 2023, arXiv:2205.03288.
    """
    features, size = design.features, design.features.shape[1]
    fitted, tied = _excess(features, found), _excess(design.pair_features, found)
    hessian = _hessian(design, tie_weights, fitted, tied)
    scores = _sums(design, (design.row_weights * (design.excess - fitted))[:, None] * features)
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    own = _sums(design, (design.row_weights * (0.25 - fitted**2))[:, None] * products).reshape(-1, size, size)
    moved = np.linalg.solve(hessian - own, scores[:, :, None])[:, :, 0]
    inverse = np.linalg.inv(hessian)
    ties = (design.pair_features.T * (tie_weights * (0.25 + tied**2))) @ design.pair_features
    count = design.num_prompts
    return np.asarray((count - 1) / count * (moved.T @ moved) + inverse @ ties @ inverse)


def misfit(design: JointDesign, found: Floats) -> float:
    """The largest distance of a pair's win rate from what the strengths give it."""
    errors = design.row_weights * (design.excess - _excess(design.features, found))
    sizes = np.bincount(design.pair_index, design.row_weights)
    return float(np.abs(np.bincount(design.pair_index, errors) / sizes).max())


def _excess(features: Floats, found: Floats) -> Floats:
    """P(the later one wins) - 1/2; a tie is exactly 0."""
    return 0.5 * np.tanh(0.5 * (features @ found))


def _ridge(design: JointDesign) -> Floats:
    """The penalty on phi, none on strengths, [strengths + 1]."""
    penalty = np.zeros(design.features.shape[1])
    penalty[-1] = SLOPE_RIDGE
    return penalty


def _hessian(design: JointDesign, tie_weights: Floats, fitted: Floats, tied: Floats) -> Floats:
    judged = (design.features.T * (design.row_weights * (0.25 - fitted**2))) @ design.features
    ties = (design.pair_features.T * (tie_weights * (0.25 - tied**2))) @ design.pair_features
    return np.asarray(judged + ties + np.diag(_ridge(design)))


def _sums(design: JointDesign, values: Floats) -> Floats:
    """Sums over each prompt's rows, [rows, columns] -> [prompts, columns]."""
    columns = [np.bincount(design.prompt_index, column, design.num_prompts) for column in values.T]
    return np.stack(columns, axis=1)
