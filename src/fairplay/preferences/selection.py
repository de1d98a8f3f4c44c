"""From judged responses to training examples, by the kinds of `settings.KINDS`; all that is left out is counted.

Left out: reading and writing records (`storage/`), what is learnt from an example (`objectives/`). Floor 2; pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError, SettingsError
from fairplay.lookup import lookup
from fairplay.preferences.game import nash_mixture
from fairplay.preferences.settings import GIVEN, SelectionSettings
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.records import Dropped, PreferenceGroup, Response, TrainingExample
from fairplay.seeds import stable_seed

ALL_EQUAL = "all responses are equal"
TIE = "tie"
SMALL_MARGIN = "margin below min_margin"
NOT_GIVEN = "no response in the data"
TOO_FEW = "too few different responses for num_pairs"

NO_WEIGHT = 1e-6  # the linear program's winner is exact to less
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
    """A judged group: the indices of its different texts, P(i beats j) [K, K], mean logits of beating the others [K],
    win rates [K], a seed for draws.

    P is NaN where two responses were not compared; means are over those that were.
    """

    prompt_id: str
    different: tuple[int, ...]
    win_probs: NDArray[np.float64]
    scores: NDArray[np.float64]
    win_rates: NDArray[np.float64]
    seed: int

    @property
    def best(self) -> int:
        return max(self.different, key=lambda i: (self.win_rates[i], -i))

    def gap(self, chosen: int, rejected: int) -> Candidate:
        return Candidate(chosen, rejected, float(self.win_rates[chosen] - self.win_rates[rejected]))

    def duel(self, chosen: int, rejected: int) -> Candidate:
        margin = self.win_probs[chosen, rejected] - self.win_probs[rejected, chosen]
        return Candidate(chosen, rejected, float(margin))


def select_examples(
    groups: Sequence[PreferenceGroup],
    settings: SelectionSettings,
    *,
    temperature: float,
    seed: int,
    with_scores: bool = False,
) -> Selection:
    """Training examples of the kind asked for, in the order of the groups.

    Win rates count every response (equal texts are samples of the policy too); pairs are made of different texts.

    Args:
        groups: Judged responses; K may differ between groups.
        settings: Kind, rule, opponents, number of pairs, smallest margin.
        temperature: The oracle's temperature, > 0.
        seed: The run's seed; draws of `best-random` and `nash-weighted` depend on it and on the prompt's id only.
        with_scores: Whether examples carry scores too: the mean logit (over T) with which a response beats the prompt's
            others.

    Returns:
        Examples that carry the win rates of the responses they keep and mark one (chosen, rejected) pair each; with
        ids of the prompt, or `<prompt>#0`, `<prompt>#1`, ... where `num_pairs` is more than 1. And what was dropped.

    Raises:
        DataError: If a group has fewer than 2 responses or logits that are not finite; the message names the prompt.
        SettingsError: If the kind is `given-random`, for which there is `select_given`.
    """
    if settings.kind == GIVEN:
        raise SettingsError(
            f"selection.kind: `{GIVEN}` learns from the data's own responses, which judged responses don't have",
            hint="it is for `fairplay run`; offline, write pairs and use `fairplay train`",
        )
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
            else:
                build = _whole_example if settings.kind == "all" else _pair_example
                example = build(preferences, standing, candidates[number], example_id, with_scores=with_scores)
                examples.append(example)
    return Selection(tuple(examples), tuple(dropped))


def select_given(groups: Sequence[PreferenceGroup], given: Mapping[str, str], *, seed: int) -> Selection:
    """Each prompt's own response in the data (chosen) with one that the policy wrote, drawn at random (rejected): SPIN.

    Args:
        groups: What the policy responded.
        given: Prompt id -> the data's response.
        seed: The run's seed; a draw depends on it and on the prompt's id only.

    Returns:
        One example a prompt; dropped are prompts without a response in the data, and those that the policy answers in
        its very words.

    Source: Chen et al. 2024, arXiv:2401.01335.
    """
    examples: list[TrainingExample] = []
    dropped: list[Dropped] = []
    for preferences in groups:
        group = preferences.group
        prompt_id = group.prompt.id
        if prompt_id not in given:
            dropped.append(Dropped(prompt_id, NOT_GIVEN))
            continue
        others = [response for response in group.responses if response.text != given[prompt_id]]
        if not others:
            dropped.append(Dropped(prompt_id, ALL_EQUAL))
            continue
        draw = Random(stable_seed(seed, "selection", prompt_id))  # noqa: S311 - a reproducible draw, no secret
        pair = (Response(given[prompt_id]), draw.choice(others))
        examples.append(
            TrainingExample(prompt_id, group.prompt, pair, ((0, 1),), prompt_token_ids=group.prompt_token_ids)
        )
    return Selection(tuple(examples), tuple(dropped))


def _standing(preferences: PreferenceGroup, settings: SelectionSettings, *, temperature: float, seed: int) -> _Standing:
    logits = group_logits(preferences)
    probs = win_matrix(logits, rule=settings.rule, temperature=temperature)
    first_index: dict[str, int] = {}
    for index, response in enumerate(preferences.group.responses):
        first_index.setdefault(response.text, index)
    return _Standing(
        prompt_id=preferences.group.prompt.id,
        different=tuple(first_index.values()),
        win_probs=probs,
        scores=_mean_logits(logits) / temperature,
        win_rates=win_rates(probs, opponents=settings.opponents),
        seed=stable_seed(seed, "selection", preferences.group.prompt.id),
    )


def _mean_logits(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean logit of beating the others, both orders averaged, over the pairs that were compared; [K]."""
    duels = (logits - logits.T) / 2
    np.fill_diagonal(duels, np.nan)
    return np.asarray(np.nanmean(duels, axis=1))


def _best_worst(standing: _Standing, num_pairs: int) -> list[Candidate]:
    worst = min(standing.different, key=lambda i: (standing.win_rates[i], -i))
    return [standing.gap(standing.best, worst)]


def _best_second(standing: _Standing, num_pairs: int) -> list[Candidate]:
    others = [i for i in standing.different if i != standing.best]
    return [standing.gap(standing.best, max(others, key=lambda i: (standing.win_rates[i], -i)))]


def _best_random(standing: _Standing, num_pairs: int) -> list[Candidate]:
    others = [i for i in standing.different if i != standing.best]
    Random(standing.seed).shuffle(others)  # noqa: S311 - a reproducible draw, no secret
    return [standing.gap(standing.best, other) for other in others[:num_pairs]]


def _top_margin(standing: _Standing, num_pairs: int) -> list[Candidate]:
    candidates = []  # a pair that was not compared has no margin, and is none of them
    for i in standing.different:
        for j in standing.different:
            duel = standing.duel(i, j)
            if duel.margin > 0 or (duel.margin == 0 and i < j):
                candidates.append(duel)
    return sorted(candidates, key=lambda pair: (-pair.margin, pair.chosen, pair.rejected))[:num_pairs]


def _nash_weighted(standing: _Standing, num_pairs: int) -> list[Candidate]:
    """Chosen: drawn from p*, the von Neumann winner among the different texts; rejected: what it beats most surely.

    The first chosen response of a prompt has exactly the distribution p*; more are drawn without replacement. In a
    ranking p* is the best response alone; in a cycle every member is chosen in its share, so that a cycle is kept.

    Source: the winner: Dudik et al. 2015, arXiv:1502.06362; draws without replacement: Efraimidis and Spirakis 2006.
    """
    texts = list(standing.different)
    unknown = np.argwhere(np.isnan(standing.win_probs[np.ix_(texts, texts)]))
    if len(unknown):
        i, j = (texts[place] for place in unknown[0])
        raise DataError(
            f"prompt {standing.prompt_id}: `nash-weighted` needs every pair; {i} and {j} were not compared",
            hint="let the oracle compare all pairs (num_anchors: 0), or select by win rates, such as `best-worst`",
        )
    weights = nash_mixture(standing.win_probs[np.ix_(texts, texts)])
    draws = Random(standing.seed)  # noqa: S311 - a reproducible draw, no secret
    keys = {i: -draws.expovariate(1) / weight for i, weight in zip(texts, weights, strict=True) if weight > NO_WEIGHT}
    drawn = sorted(keys, key=lambda i: (-keys[i], i))[:num_pairs]
    return [standing.duel(i, min(texts, key=lambda j: (standing.win_probs[j, i], j == i, j))) for i in drawn]


SELECTIONS: Mapping[str, Callable[[_Standing, int], list[Candidate]]] = MappingProxyType(
    {
        "all": _best_worst,
        "best-worst": _best_worst,
        "best-second": _best_second,
        "best-random": _best_random,
        "top-margin": _top_margin,
        "nash-weighted": _nash_weighted,
    }
)


def _reason_against(candidates: Sequence[Candidate], number: int, min_margin: float) -> str:
    if number >= len(candidates):
        return TOO_FEW
    margin = candidates[number].margin
    if margin <= TIE_WIDTH:
        return TIE
    return SMALL_MARGIN if margin < min_margin else ""


def _whole_example(
    preferences: PreferenceGroup, standing: _Standing, best_worst: Candidate, example_id: str, *, with_scores: bool
) -> TrainingExample:
    group = preferences.group
    return TrainingExample(
        id=example_id,
        prompt=group.prompt,
        responses=group.responses,
        pairs=((best_worst.chosen, best_worst.rejected),),
        win_rates=tuple(float(rate) for rate in standing.win_rates),
        scores=tuple(float(score) for score in standing.scores) if with_scores else (),
        prompt_token_ids=group.prompt_token_ids,
    )


def _pair_example(
    preferences: PreferenceGroup, standing: _Standing, pair: Candidate, example_id: str, *, with_scores: bool
) -> TrainingExample:
    group = preferences.group
    kept = (pair.chosen, pair.rejected)
    return TrainingExample(
        id=example_id,
        prompt=group.prompt,
        responses=tuple(group.responses[i] for i in kept),
        pairs=((0, 1),),
        win_rates=tuple(float(standing.win_rates[i]) for i in kept),
        scores=tuple(float(standing.scores[i]) for i in kept) if with_scores else (),
        prompt_token_ids=group.prompt_token_ids,
    )
