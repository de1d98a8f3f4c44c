"""What an oracle's verdicts are worth: order flips, cycles, ties, length bias, over-confidence, as plain numbers.

Left out: what labels say of it (`reliability.py`). Floor 2; pure.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.preferences.near_duplicates import near_duplicate_pairs
from fairplay.preferences.win_matrix import group_logits, order_bias, orders_read, symmetric_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import PreferenceGroup

Vector = NDArray[np.float64]


def audit_preferences(groups: Sequence[PreferenceGroup], *, temperature: float) -> dict[str, float]:
    """How consistent the verdicts are, over all groups.

    Args:
        groups: Judged responses; K may differ between groups.
        temperature: The oracle's temperature, > 0.

    Returns:
        By name, shares in [0, 1] unless said otherwise; pairs and triples are unordered and of one prompt:

        - `order_flip_rate`: pairs of different texts whose winner changes with the presentation order.
        - `mean_order_bias`: logit gained by being shown first, mean over such pairs, nats, signed. Both are taken over
          the pairs that were read in both orders, and are left out where there is none.
        - `one_order_share`: pairs of different texts that were read in one order only.
        - `not_compared_share`: pairs of different texts that were not compared, if there are any; all else is of those
          that were.
        - `intransitive_triple_rate`: triples i, j, k that beat each other in a circle, of those whose three pairs were
          compared.
        - `intransitive_triple_rate_by_chance`: what that would be if a prompt's decided pairs were dealt at random and
          their winners by a coin: 1/4 where no pair is tied.
        - `cyclic_energy_share`: squared logits that no ranking explains (0: fully transitive).
        - `length_correlation`: Pearson's r of win rate and length, both taken relative to the prompt's mean, [-1, 1];
          in tokens where all responses have token ids, else in characters; 0 where one of them does not vary.
        - `tie_rate`: pairs of different texts with a win probability of exactly 1/2.
        - `duplicate_rate`: pairs of equal texts.
        - `truncated_share`: responses of which the oracle read only a part.
        - `prompt_truncated_share`: prompts of which it read only a part.
        - `mean_margin`: |P(i beats j) - P(j beats i)|, mean over pairs of different texts.
        - `near_duplicate_rate`: pairs of different texts that are nearly equal (`near_duplicates.py`).
        - `near_duplicate_margin`: `mean_margin` of these, if there are any; as large means over-confident.
        - `member_disagreement`: standard deviation of the win probabilities of an ensemble's members, mean over pairs
          of different texts; only for ensembles.
        - `num_groups`: a count.

    Raises:
        DataError: If there is no group, or one has logits that are not finite.

    Source: cyclic energy: Jiang et al. 2011, "Statistical ranking and combinatorial Hodge theory" (HodgeRank); circular
        triples: Kendall and Babington Smith 1940; near-duplicates: S-SPPO, arXiv:2606.01561.
    """
    if not groups:
        raise DataError("there are no preferences to audit", hint="rank at least one prompt's responses")
    logits = [group_logits(preferences) for preferences in groups]
    symmetric = [symmetric_logits(matrix) for matrix in logits]
    different = [_different_pairs(preferences) for preferences in groups]
    pairs = [_compared(matrix, some) for matrix, some in zip(logits, different, strict=True)]
    num_different, num_compared = sum(map(len, different)), sum(map(len, pairs))
    win_probs = [win_matrix(matrix, temperature=temperature) for matrix in logits]
    probs = _at_pairs(win_probs, pairs)
    alike = [near_duplicate_pairs([response.text for response in item.group.responses]) for item in groups]
    near = _at_pairs(win_probs, [_compared(matrix, some) for matrix, some in zip(logits, alike, strict=True)])
    num_pairs = sum(len(matrix) * (len(matrix) - 1) // 2 for matrix in logits)
    return {
        **_order_effects(groups, logits, pairs),
        **({"not_compared_share": 1 - num_compared / num_different} if num_compared < num_different else {}),
        "intransitive_triple_rate": _intransitive_triple_rate(symmetric),
        "intransitive_triple_rate_by_chance": _triple_rate_by_chance(symmetric),
        "cyclic_energy_share": _cyclic_energy_share(symmetric),
        "length_correlation": _length_correlation(groups, logits, temperature),
        "tie_rate": _mean(probs == 0.5),
        "duplicate_rate": 1 - num_different / num_pairs if num_pairs else 0.0,
        "truncated_share": _mean(np.asarray([flag for preferences in groups for flag in preferences.truncated])),
        "prompt_truncated_share": _mean(np.asarray([preferences.prompt_truncated for preferences in groups])),
        "mean_margin": _mean(np.abs(2 * probs - 1)),
        "near_duplicate_rate": len(near) / len(probs) if len(probs) else 0.0,
        **({"near_duplicate_margin": _mean(np.abs(2 * near - 1))} if len(near) else {}),
        **_member_disagreement(groups, pairs),
        "num_groups": float(len(groups)),
    }


def _order_effects(
    groups: Sequence[PreferenceGroup], logits: Sequence[Vector], pairs: Sequence[list[tuple[int, int]]]
) -> dict[str, float]:
    read = [orders_read(preferences) for preferences in groups]
    in_both = _at_pairs([matrix & matrix.T for matrix in read], pairs).astype(np.bool_)
    if in_both.size and not in_both.any():
        return {"one_order_share": 1.0}
    first = _at_pairs(logits, pairs)
    second = _at_pairs([matrix.T for matrix in logits], pairs)
    bias = _at_pairs([order_bias(matrix) for matrix in logits], pairs)
    return {
        "order_flip_rate": _mean((first * second > 0)[in_both]),
        "mean_order_bias": _mean(bias[in_both]),
        "one_order_share": _mean(~in_both),
    }


def _different_pairs(preferences: PreferenceGroup) -> list[tuple[int, int]]:
    responses = preferences.group.responses
    return [(i, j) for i, j in combinations(range(len(responses)), 2) if responses[i].text != responses[j].text]


def _compared(matrix: Vector, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [pair for pair in pairs if not np.isnan(matrix[pair])]


def _member_disagreement(groups: Sequence[PreferenceGroup], pairs: Sequence[list[tuple[int, int]]]) -> dict[str, float]:
    found = [
        item.disagreement[i][j]
        for item, chosen in zip(groups, pairs, strict=True)
        if item.disagreement
        for i, j in chosen
    ]
    return {"member_disagreement": _mean(np.asarray(found, dtype=np.float64))} if found else {}


def _at_pairs(matrices: Sequence[Vector | NDArray[np.bool_]], pairs: Sequence[list[tuple[int, int]]]) -> Vector:
    values = [matrix[i, j] for matrix, chosen in zip(matrices, pairs, strict=True) for i, j in chosen]
    return np.asarray(values, dtype=np.float64)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else 0.0


def _intransitive_triple_rate(symmetric: Sequence[Vector]) -> float:
    num_circles = num_triples = 0
    for d in symmetric:
        for i, j, k in combinations(range(len(d)), 3):
            if np.isnan(d[i, j] + d[j, k] + d[k, i]):
                continue
            num_triples += 1
            num_circles += bool(abs(np.sign(d[i, j]) + np.sign(d[j, k]) + np.sign(d[k, i])) == 3)
    return num_circles / num_triples if num_triples else 0.0


def _triple_rate_by_chance(symmetric: Sequence[Vector]) -> float:
    """Of m pairs, q decided: a triple's three are with probability C(q, 3) / C(m, 3); 2 of 8 outcomes are circles."""
    expected = num_triples = 0.0
    for d in symmetric:
        compared = np.triu(~np.isnan(d), 1)
        num_pairs, triples = int(compared.sum()), _num_triangles(compared)
        decided = int(np.count_nonzero(np.where(compared, d, 0.0)))
        num_triples += triples
        expected += 0.25 * triples * comb(decided, 3) / comb(num_pairs, 3) if triples else 0.0
    return expected / num_triples if num_triples else 0.0


def _num_triangles(compared: NDArray[np.bool_]) -> int:
    if compared.sum() == comb(len(compared), 2):
        return comb(len(compared), 3)
    links = (compared | compared.T).astype(np.int64)
    return int(np.trace(links @ links @ links)) // 6


def _strength(d: Vector) -> Vector:
    """The ranking that explains most of d over the pairs that were compared: the mean, where all were."""
    compared = ~np.isnan(d)
    if compared.all():
        return np.asarray(d.mean(axis=1))
    laplacian = np.diag(compared.sum(axis=1)) - compared
    return np.asarray(np.linalg.pinv(laplacian.astype(np.float64), hermitian=True) @ np.nansum(d, axis=1))


def _cyclic_energy_share(symmetric: Sequence[Vector]) -> float:
    cyclic = total = 0.0
    for d in symmetric:
        strength = _strength(d)
        cyclic += float(np.nansum(np.square(d - (strength[:, None] - strength[None, :]))))
        total += float(np.nansum(np.square(d)))
    return cyclic / total if total else 0.0


def _length_correlation(groups: Sequence[PreferenceGroup], logits: Sequence[Vector], temperature: float) -> float:
    has_tokens = all(response.token_ids for preferences in groups for response in preferences.group.responses)
    rates, lengths = [], []
    for preferences, matrix in zip(groups, logits, strict=True):
        responses = preferences.group.responses
        length = np.asarray([len(r.token_ids) if has_tokens else len(r.text) for r in responses], dtype=np.float64)
        rate = win_rates(win_matrix(matrix, temperature=temperature), opponents="with-self")
        rates.append(rate - rate.mean())
        lengths.append(length - length.mean())
    rate, length = np.concatenate(rates), np.concatenate(lengths)
    scale = float(np.sqrt(np.square(rate).sum() * np.square(length).sum()))
    return float(rate @ length) / scale if scale > 1e-12 else 0.0
