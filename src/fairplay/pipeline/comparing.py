"""`fairplay compare`: evaluations on the same prompts, paired, each against the first one.

Left out: the statistics (`evaluation/differences.py`), finding what is compared (`compared.py`). Floor 7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.differences import accuracy_difference, rating_difference, verdict_difference
from fairplay.evaluation.paired_tests import holm
from fairplay.evaluation.protocols.mt_bench import HIGHEST, LOWEST
from fairplay.evaluation.settings import MIN_BOOTSTRAP
from fairplay.pipeline.compared import MARGINS, RATINGS, VERDICTS, Compared, find_compared
from fairplay.pipeline.margins import example_of
from fairplay.pipeline.results import titled, with_intervals
from fairplay.seeds import stable_seed

_NAMED = 5
_HASH_LENGTH = 64
_SAME = 1e-6
"""Within it two computations of one figure agree: fits stop where a step moves nothing further."""
_FIGURES = {"verdicts": ("win_rate", "lc_win_rate"), "ratings": ("rating",)}
_UNITS = {VERDICTS: "prompts", RATINGS: "answers", MARGINS: "pairs"}


@dataclass(frozen=True)
class CompareSettings:
    """How evaluations are compared.

    Attributes:
        opponent: Of a run's iterates: against whom they were judged.
        role: Of a run's verdicts: whose, `judge` or `oracle`.
        intersection: Whether prompts that only one side has are left out; else they are refused.
        num_bootstrap: Resamples of the prompts behind each interval.
        seed: Seed of resamples and flips.
    """

    opponent: str = "start"
    role: str = "judge"
    intersection: bool = False
    num_bootstrap: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.role not in ("judge", "oracle"):
            raise SettingsError(f"role: `{self.role}` is neither judge nor oracle")
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}")


def compare(sources: Sequence[str], settings: CompareSettings) -> dict[str, Any]:
    """Compare each evaluation with the first one.

    Args:
        sources: Two or more, see `find_compared`.
        settings: How.

    Returns:
        One object for each comparison, with p-values adjusted by Holm over all that are returned.

    Raises:
        DataError: If a source can't be read or was damaged, judges, opponents or texts differ, or the prompts are not
            the same and leaving some out was not asked for.
        SettingsError: If there are fewer than two, or they are of two kinds.
    """
    if len(sources) < 2:
        raise SettingsError("compare: needs two evaluations or more", hint="fairplay compare RUN_A RUN_B")
    found = [find_compared(source, settings.opponent, settings.role) for source in sources]
    first = found[0]
    for other in found[1:]:
        _check_alike(first, other)
    made = [_compare(first, other, settings) for other in found[1:]]
    family = [change for one in made for change in _changes(one)]
    adjusted = holm({str(place): change["p_value"] for place, change in enumerate(family)})
    for place, change in enumerate(family):
        change["p_value_holm"] = adjusted[str(place)]
    return titled("difference", {"family_size": len(family), "differences": made})


def _changes(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Everything in a comparison that was tested."""
    verdicts = [one["verdicts"]["win_rate_change"]] if one["verdicts"] else []
    ratings = [one["ratings"]["rating_change"]] if one["ratings"] else []
    return [*verdicts, *ratings, *(found["accuracy_change"] for found in one["accuracies"].values())]


def _compare(first: Compared, other: Compared, settings: CompareSettings) -> dict[str, Any]:
    common = _common(first, other, settings)
    seed = stable_seed(settings.seed, "compare")
    verdicts: dict[str, Any] = {}
    accuracies: dict[str, Any] = {}
    ratings: dict[str, Any] = {}
    if first.kind == VERDICTS:
        sides = [[one for one in side.judgements if one.prompt_id in common] for side in (first, other)]
        verdicts = asdict(verdict_difference(*sides, seed=seed, num_bootstrap=settings.num_bootstrap))
    if first.kind == RATINGS:
        graded = [{answer: side.ratings[answer] for answer in common} for side in (first, other)]
        rated = rating_difference(
            *graded,
            questions={answer: example_of(answer) for answer in common},
            limits=(LOWEST, HIGHEST),
            seed=seed,
            num_bootstrap=settings.num_bootstrap,
        )
        ratings = asdict(rated)
    for kind in [kind for kind in first.margins if kind in other.margins]:
        margins = [{pair: side.margins[kind][pair] for pair in common} for side in (first, other)]
        prompts = {pair: example_of(pair) for pair in common}
        found = accuracy_difference(*margins, prompts=prompts, seed=seed, num_bootstrap=settings.num_bootstrap)
        accuracies[kind] = asdict(found)
    told = {"verdicts": with_intervals(verdicts), "ratings": with_intervals(ratings)}
    for part, names in _FIGURES.items():
        for when, side in (("before", first), ("after", other)):
            if told[part] and len(common) == len(side.units):
                _take_intervals(told[part], side.figures, names, when)
    return {
        "before": first.title,
        "after": other.title,
        "judge": first.judge,
        "opponent": first.opponent,
        "n": len(common),
        "only_before": len(first.units) - len(common),
        "only_after": len(other.units) - len(common),
        **told,
        "accuracies": with_intervals(accuracies),
        "notes": _notes(first, other),
    }


def _take_intervals(told: dict[str, Any], figures: Mapping[str, Any], names: Sequence[str], when: str) -> None:
    """A number that the evaluation has told already has the interval that it had there."""
    for name in names:
        value, known, ends = told[f"{name}_{when}"], figures.get(name), figures.get(f"{name}_ci")
        if known is not None and ends is not None and abs(known - value) < _SAME:
            told[f"{name}_{when}_ci"] = list(ends)


def _common(first: Compared, other: Compared, settings: CompareSettings) -> frozenset[str]:
    common = first.units & other.units
    if not common:
        raise DataError(f"{first.title} and {other.title} have nothing in common", hint="evaluate both on one file")
    told = [
        f"{side.title} has {len(only)} that {rest.title} lacks ({', '.join(sorted(only)[:_NAMED])}, ...)"
        for side, rest, only in (
            (first, other, first.units - common),
            (other, first, other.units - common),
        )
        if only
    ]
    if told and not settings.intersection:
        what = _UNITS[first.kind]
        raise DataError(
            f"not the same {what}: {'; '.join(told)}",
            hint=f"--intersection compares the {len(common)} {what} that both have",
        )
    changed = sorted(unit for unit in common if first.texts.get(unit, "") != other.texts.get(unit, ""))
    if first.texts and other.texts and changed:
        raise DataError(
            f"{len(changed)} {_UNITS[first.kind]} have one id and two texts ({', '.join(changed[:_NAMED])}, ...)",
            hint=f"these are other {_UNITS[first.kind]}, not the same ones",
        )
    return common


def _check_alike(first: Compared, other: Compared) -> None:
    if first.kind != other.kind:
        raise SettingsError(f"{first.title} and {other.title}: {first.kind} can't be compared with {other.kind}")
    for what in ("judge", "opponent"):
        one, another = getattr(first, what), getattr(other, what)
        if one and another and one != another:
            raise DataError(
                f"{first.title} and {other.title} have two {what}s: {one} and {another}",
                hint=f"a difference means something for one {what} only; evaluate both by the same one",
            )
    unlike = sorted(key for key in first.asked if key in other.asked and first.asked[key] != other.asked[key])
    if unlike:
        told = [f"{key}: {_short(first.asked[key])} and {_short(other.asked[key])}" for key in unlike]
        raise DataError(
            f"{first.title} and {other.title}: the judge is another one, or was asked in two ways ({'; '.join(told)})",
            hint="judge one of them again as the other one",
        )
    if first.kind == MARGINS and not set(first.margins) & set(other.margins):
        raise DataError(f"{first.title} and {other.title} have no kind of margin in common")


def _short(value: Any) -> Any:
    """A hash by its beginning, everything else as it is."""
    return value[:12] if isinstance(value, str) and len(value) == _HASH_LENGTH else value


def _notes(first: Compared, other: Compared) -> list[str]:
    notes = []
    if first.opponent_content and other.opponent_content and first.opponent_content != other.opponent_content:
        notes.append(
            "The two met different responses of the opponent: the difference holds the noise of its sampling, too."
        )
    if first.kind == VERDICTS and not (first.judge and other.judge):
        notes.append("A file of verdicts does not say who judged; whether both had one judge was not checked.")
    if (first.judgements, first.ratings, first.margins) == (other.judgements, other.ratings, other.margins):
        notes.append("Both sides are the very same figures: nothing is compared.")
    for side in dict.fromkeys((first.title, other.title)):
        alarms = first.alarms if side == first.title else other.alarms
        notes += [f"ALARM in {side}: {alarm}" for alarm in alarms]
    return notes
