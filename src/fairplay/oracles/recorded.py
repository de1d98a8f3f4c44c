"""Recorded preferences as an oracle: what somebody said of pairs of responses, looked up by prompt and texts.

    {"prompt": ..., "responses": [K texts], "pair_logits_ab": [K][K], "temperature": T}   as `fairplay rank` writes
    {"prompt": ..., "responses": [K texts], "win_probs": [K][K]}                          P(i beats j); null: unknown
    {"prompt": ..., "responses": [K texts], "scores": [K]}                                higher is better
    {"prompt": ..., "response_a": text, "response_b": text, "win_prob": P(a beats b)}     1/2: judged a tie
    {"prompt": ..., "chosen": text, "rejected": text}                                     a label

The first of these that a row has counts. Several probabilities or labels of one pair are votes: their mean counts.
Left out: who judged. Floor 4; imports no torch.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isclose, isfinite, log
from typing import Any, Self

from fairplay.data.rows import Columns
from fairplay.errors import DataError
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.prompt_rows import Messages, prompt_rows
from fairplay.records import PreferenceGroup, ResponseGroup

logger = logging.getLogger(__name__)
FORMS = ("pair_logits_ab", "win_probs", "scores", "win_prob", "chosen")
_Pair = tuple[Messages, str, str]  # first shown, second shown


class RecordedOracle:
    """Says what was recorded; a pair of equal texts ties.

    Args:
        logits: The logit that the first of two texts beats the second, by prompt and texts.
        name: Kind and identity.
        temperature: As set by the user.
        missing: A name in `kinds.recorded.MISSING`.
    """

    def __init__(self, logits: Mapping[_Pair, float], *, name: str, temperature: float, missing: str) -> None:
        self.logits, self.name, self.temperature, self.missing = logits, name, temperature, missing

    @classmethod
    def load(cls, settings: RecordedSettings) -> Self:
        """The recorded preferences that the settings name.

        Raises:
            DataError: If the file can't be read, or a row is in none of the forms, has a probability outside [0, 1], a
                number that is not finite, or contradicts another row; the message says where.
        """
        records = _Records(settings.max_prob)
        for where, messages, columns in prompt_rows(settings.records, settings.prompt_column):
            records.add(where, messages, columns)
        source = settings.sources()["records"]
        return cls(
            records.logits(),
            name=f"recorded:{source.name}@{source.short_digest()}",
            temperature=settings.temperature,
            missing=settings.missing,
        )

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Look up all ordered pairs of each group; see `PreferenceOracle`.

        Raises:
            DataError: If a pair is not recorded and `missing` is "refuse"; names the prompt and counts the pairs.
        """
        judged = [self._judged(group) for group in groups]
        lost = [(item.group, i, j) for item in judged for i, j in _unread(item)]
        if lost:
            (group, i, j), more = lost[0], len(lost) - 1
            told = (
                f"prompt {group.prompt.id}: no recorded preference between responses {i} and {j}"
                f"{f', and {more} more pairs without one' if more else ''}"
            )
            if self.missing == "refuse":
                raise DataError(told, hint="`missing: drop` leaves such prompts out and counts them")
            logger.warning("%s (%s)", told, self.name)
        return judged

    def _judged(self, group: ResponseGroup) -> PreferenceGroup:
        messages, texts = group.prompt.messages, [response.text for response in group.responses]
        rows = tuple(
            tuple(0.0 if one == other else self.logits.get((messages, one, other)) for other in texts) for one in texts
        )
        return PreferenceGroup(group, rows, (False,) * len(texts))


def _unread(judged: PreferenceGroup) -> list[tuple[int, int]]:
    rows = judged.pair_logits
    return [(i, j) for i, j in combinations(range(len(rows)), 2) if rows[i][j] is None and rows[j][i] is None]


class _Records:
    """Rows as they are read, until each pair has one logit."""

    def __init__(self, max_prob: float) -> None:
        self.max_prob = max_prob
        self.probs: dict[_Pair, list[float]] = defaultdict(list)
        self.exact: dict[_Pair, float] = {}

    def add(self, where: str, messages: Messages, columns: Columns) -> None:
        form = next((name for name in FORMS if columns.get(name) is not None), "")
        if not form:
            raise DataError(f"{where}: no {', '.join(FORMS)}", hint=f"it has {', '.join(sorted(columns))}")
        if form in ("win_prob", "chosen"):
            names = ("response_a", "response_b") if form == "win_prob" else ("chosen", "rejected")
            one, other = (_text(where, name, columns.get(name)) for name in names)
            prob = _number(where, form, columns[form]) if form == "win_prob" else 1.0
            self._add_prob(where, messages, one, other, prob)
            return
        texts = _texts(where, columns.get("responses"))
        if form == "scores":
            scores = [_number(where, form, value) for value in _list(where, form, columns[form], len(texts))]
            matrix: list[list[Any]] = [[one - other for other in scores] for one in scores]
        else:
            matrix = [_list(where, form, row, len(texts)) for row in _list(where, form, columns[form], len(texts))]
        if form == "win_probs":
            self._add_probs(where, messages, texts, matrix)
        else:
            scale = _number(where, "temperature", columns.get("temperature", 1.0)) if form != "scores" else 1.0
            if scale <= 0:
                raise DataError(f"{where}: temperature {scale} is not positive")
            self._add_logits(where, messages, texts, matrix, scale)

    def _add_prob(self, where: str, messages: Messages, one: str, other: str, prob: float) -> None:
        if not 0 <= prob <= 1:
            raise DataError(f"{where}: the probability {prob} is not within [0, 1]")
        self.probs[messages, one, other].append(prob)
        self.probs[messages, other, one].append(1 - prob)

    def _add_probs(self, where: str, messages: Messages, texts: Sequence[str], matrix: list[list[Any]]) -> None:
        for i, j in combinations(range(len(texts)), 2):
            pair = [
                None if value is None else _number(where, "win_probs", value) for value in (matrix[i][j], matrix[j][i])
            ]
            if pair[0] is None and pair[1] is None:
                continue
            if pair[0] is None or pair[1] is None or not isclose(pair[0] + pair[1], 1, abs_tol=1e-6):
                raise DataError(
                    f"{where}: win_probs[{i}][{j}] and [{j}][{i}] are {pair[0]} and {pair[1]}, and don't add up to 1"
                )
            self._add_prob(where, messages, texts[i], texts[j], pair[0])

    def _add_logits(
        self, where: str, messages: Messages, texts: Sequence[str], matrix: list[list[Any]], scale: float
    ) -> None:
        for i, one in enumerate(texts):
            for j, other in enumerate(texts):
                if one == other or matrix[i][j] is None:
                    continue
                logit = _number(where, "pair_logits_ab", matrix[i][j]) / scale
                if not isclose(self.exact.setdefault((messages, one, other), logit), logit, abs_tol=1e-6):
                    raise DataError(f"{where}: responses {i} and {j} have another verdict before", hint="keep one")

    def logits(self) -> dict[_Pair, float]:
        """One logit for each ordered pair.

        Raises:
            DataError: If a pair has both a logit and a probability.
        """
        found = dict(self.exact)
        for pair, probs in self.probs.items():
            if pair in found:
                raise DataError(
                    f"the pair {pair[1]!r:.40}, {pair[2]!r:.40} has both a logit and a probability",
                    hint="scores count as logits, labels as probabilities; keep one of the two",
                )
            mean = min(max(sum(probs) / len(probs), 1 - self.max_prob), self.max_prob)
            found[pair] = log(mean / (1 - mean))
        return found


def _number(where: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise DataError(f"{where}: `{name}` has {value!r:.40}, which is no finite number")
    return float(value)


def _text(where: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: `{name}` must be a text, not {value!r:.40}")
    return value


def _texts(where: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: `responses` must be a list of texts, not {value!r:.40}")
    return [_text(where, "responses", text) for text in value]


def _list(where: str, name: str, value: object, size: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != size:
        raise DataError(f"{where}: `{name}` is not of {size} entries, one a response: {value!r:.40}")
    return value
