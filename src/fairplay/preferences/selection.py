"""From judged responses to training examples, by the kinds of `settings.KINDS`; all that is left out is counted.

Left out: reading and writing records (`storage/`), what is learnt from an example (`objectives/`). Floor 2; pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.lookup import lookup
from fairplay.preferences.settings import SelectionSettings
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import Dropped, PreferenceGroup, TrainingExample
from fairplay.seeds import stable_seed

ALL_EQUAL = "all responses are equal"
TIE = "tie"
SMALL_MARGIN = "margin below min_margin"
TOO_FEW = "too few different responses for num_pairs"

TIE_WIDTH = 1e-12  # rates that are equal on paper differ by rounding: the terms are summed in another order


@dataclass(frozen=True, slots=True)
class Selection:
    """Training examples, and what was left out with the reason (ids as the examples would have had)."""

    examples: tuple[TrainingExample, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that may become an example: indices into the group's responses, and its margin in [-1, 1]."""

    chosen: int
    rejected: int
    margin: float


@dataclass(frozen=True, slots=True)
class _Standing:
    """A judged group: the indices of its different texts, P(i beats j) [K, K], win rates [K], a seed for draws."""

    different: tuple[int, ...]
    win_probs: NDArray[np.float64]
    win_rates: NDArray[np.float64]
    seed: int

    @property
    def best(self) -> int:
        return max(self.different, key=lambda i: (self.win_rates[i], -i))

    def gap(self, chosen: int, rejected: int) -> Candidate:
        return Candidate(chosen, rejected, float(self.win_rates[chosen] - self.win_rates[rejected]))


def select_examples(
    groups: Sequence[PreferenceGroup], settings: SelectionSettings, *, temperature: float, seed: int
) -> Selection:
    """Training examples of the kind asked for, in the order of the groups.

    Win rates count every response (equal texts are samples of the policy too); pairs are made of different texts.

    Args:
        groups: Judged responses; K may differ between groups.
        settings: Kind, rule, opponents, number of pairs, smallest margin.
        temperature: The oracle's temperature, > 0.
        seed: The run's seed; draws of `best-random` depend on it and on the prompt's id only.

    Returns:
        Examples that carry the win rates of the responses they keep and mark one (chosen, rejected) pair each; with
        ids of the prompt, or `<prompt>#0`, `<prompt>#1`, ... where `num_pairs` is more than 1. And what was dropped.

    Raises:
        DataError: If a group has fewer than 2 responses or logits that are not finite; the message names the prompt.
    """
    examples: list[TrainingExample] = []
    dropped: list[Dropped] = []
    for preferences in groups:
        prompt_id = preferences.group.prompt.id
        num_responses = len(preferences.group.responses)
        if num_responses < 2:
            raise DataError(
                f"prompt {prompt_id}: preferences need at least 2 responses, there is {num_responses}",
                hint="generate with `num_responses: 2` or more",
            )
        standing = _standing(preferences, settings, temperature=temperature, seed=seed)
        if len(standing.different) < 2:
            dropped.append(Dropped(prompt_id, ALL_EQUAL))
            continue
        candidates = lookup(SELECTIONS, settings.kind, "selection kind")(standing, settings.num_pairs)
        for number in range(settings.num_pairs):
            example_id = f"{prompt_id}#{number}" if settings.num_pairs > 1 else prompt_id
            reason = _reason_against(candidates, number, settings.min_margin)
            if reason:
                dropped.append(Dropped(example_id, reason))
            elif settings.kind == "all":
                examples.append(_whole_example(preferences, standing, candidates[number], example_id))
            else:
                examples.append(_pair_example(preferences, standing, candidates[number], example_id))
    return Selection(tuple(examples), tuple(dropped))


def _standing(preferences: PreferenceGroup, settings: SelectionSettings, *, temperature: float, seed: int) -> _Standing:
    probs = win_matrix(group_logits(preferences), rule=settings.rule, temperature=temperature)
    first_index: dict[str, int] = {}
    for index, response in enumerate(preferences.group.responses):
        first_index.setdefault(response.text, index)
    return _Standing(
        different=tuple(first_index.values()),
        win_probs=probs,
        win_rates=win_rates(probs, opponents=settings.opponents),
        seed=stable_seed(seed, "selection", preferences.group.prompt.id),
    )


def _best_worst(standing: _Standing, num_pairs: int) -> list[Candidate]:
    worst = min(standing.different, key=lambda i: (standing.win_rates[i], -i))
    return [standing.gap(standing.best, worst)]


def _best_random(standing: _Standing, num_pairs: int) -> list[Candidate]:
    others = [i for i in standing.different if i != standing.best]
    Random(standing.seed).shuffle(others)  # noqa: S311 - a reproducible draw, no secret
    return [standing.gap(standing.best, other) for other in others[:num_pairs]]


def _top_margin(standing: _Standing, num_pairs: int) -> list[Candidate]:
    candidates = []
    for i in standing.different:
        for j in standing.different:
            margin = float(standing.win_probs[i, j] - standing.win_probs[j, i])
            if margin > 0 or (margin == 0 and i < j):
                candidates.append(Candidate(i, j, margin))
    return sorted(candidates, key=lambda pair: (-pair.margin, pair.chosen, pair.rejected))[:num_pairs]


SELECTIONS: Mapping[str, Callable[[_Standing, int], list[Candidate]]] = MappingProxyType(
    {"all": _best_worst, "best-worst": _best_worst, "best-random": _best_random, "top-margin": _top_margin}
)


def _reason_against(candidates: Sequence[Candidate], number: int, min_margin: float) -> str:
    if number >= len(candidates):
        return TOO_FEW
    margin = candidates[number].margin
    if margin <= TIE_WIDTH:
        return TIE
    return SMALL_MARGIN if margin < min_margin else ""


def _whole_example(
    preferences: PreferenceGroup, standing: _Standing, best_worst: Candidate, example_id: str
) -> TrainingExample:
    group = preferences.group
    return TrainingExample(
        id=example_id,
        prompt=group.prompt,
        responses=group.responses,
        pairs=((best_worst.chosen, best_worst.rejected),),
        win_rates=tuple(float(rate) for rate in standing.win_rates),
        prompt_token_ids=group.prompt_token_ids,
    )


def _pair_example(
    preferences: PreferenceGroup, standing: _Standing, pair: Candidate, example_id: str
) -> TrainingExample:
    group = preferences.group
    kept = (pair.chosen, pair.rejected)
    return TrainingExample(
        id=example_id,
        prompt=group.prompt,
        responses=tuple(group.responses[i] for i in kept),
        pairs=((0, 1),),
        win_rates=tuple(float(standing.win_rates[i]) for i in kept),
        prompt_token_ids=group.prompt_token_ids,
    )
