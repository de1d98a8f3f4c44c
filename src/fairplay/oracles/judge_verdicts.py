"""From a judge's reply to a win probability: by the log-probs of its verdict, or by what it says.

Left out: asking (`pair_judge.py`). Floor 4; pure, so that stored replies can be read again. A reply that can't be read
is no tie and no loss: it is no verdict, with a reason.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite

from fairplay.oracles.judge_template import JudgeTemplate
from fairplay.servers.outcomes import Choice, Position

NO_LABEL = "no verdict in the reply"
AMBIGUOUS = "two verdicts in the reply"
LOW_MASS = "little probability on the verdicts"

READER_VERSION = 2
"""Goes up whenever a stored reply would be read differently."""

_MARKS = " \n\t\r*_`\"'#<>()[]{}.:,\u2581\u0120"
_NOUNS = r"(?:(?:summary|response|answer|assistant|option)\s+)?"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of the response shown first.

    Attributes:
        win_prob: P(the first-shown response wins), in [0, 1].
        mass: Probability that the judge had on all labels together; 1 where its words were read.
        label: What it said, or the likeliest label.
        by_log_probs: Whether log-probs were read.
        text: The reply.
    """

    win_prob: float
    mass: float
    label: str
    by_log_probs: bool
    text: str


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why there is no verdict, and the reply if there is one."""

    reason: str
    text: str


def read_verdict(choice: Choice, template: JudgeTemplate, *, log_probs: bool, min_mass: float) -> Verdict | NoVerdict:
    """The verdict in a reply.

    Args:
        choice: The reply.
        template: What was asked.
        log_probs: Whether to weigh the labels by their log-probs; where these have less than `min_mass`, the words
            decide.
        min_mass: Probability that all labels together must have.
    """
    place, label, reason = _find(choice.text, template)
    position = _position(choice, place, template) if log_probs else None
    if position is not None and position.top:
        weights = label_probs(position.top, tuple(template.labels))
        mass = sum(weights.values())
        if mass > 0 and mass >= min_mass:
            win_prob = _weighted(weights, position, template)
            return Verdict(win_prob, mass, max(weights, key=weights.__getitem__), True, choice.text)
        reason = LOW_MASS
    if label:
        return Verdict(template.labels[label], 1.0, label, False, choice.text)
    return NoVerdict(reason, choice.text)


def label_probs(top: Sequence[tuple[str, float]], labels: Sequence[str]) -> dict[str, float]:
    """Probability of each label among the likeliest tokens, in all its spellings; only labels that are there."""
    found: dict[str, float] = {}
    for token, logprob in top:
        label = token.strip(_MARKS)
        if label in labels:
            found[label] = found.get(label, 0.0) + exp(min(logprob, 0.0))
    return found


def _weighted(weights: dict[str, float], position: Position, template: JudgeTemplate) -> float:
    """Mean win probability over the labels.

    A label beyond the tokens told is not impossible: it is given all that it could have, the least probability told or
    what is left over, whichever is less. So certainty is never made up.
    """
    told = [exp(min(logprob, 0.0)) for _, logprob in position.top if isfinite(logprob)]
    most = max(min(min(told, default=0.0), 1.0 - sum(told)), 0.0)
    complete = {label: weights.get(label, most) for label in template.labels}
    total = sum(complete.values())
    return sum(template.labels[label] * weight for label, weight in complete.items()) / total


def _position(choice: Choice, place: int, template: JudgeTemplate) -> Position | None:
    """The token at which the judge tells its verdict."""
    if template.answer == "token":
        return next((position for position in choice.positions if position.token.strip(_MARKS)), None)
    begin = 0
    for position in choice.positions:
        end = begin + len(position.token)
        if begin <= place < end:
            return position if position.token.strip(_MARKS) in template.labels else None
        begin = end
    return None


def _find(text: str, template: JudgeTemplate) -> tuple[int, str, str]:
    """Where the verdict stands (-1 if nowhere), the label (empty if none), and why there is none."""
    found = _FORMS[template.answer](text, template)
    said = {label for _, label in found}
    if len(said) == 1:
        return found[-1][0], found[-1][1], ""
    return -1, "", AMBIGUOUS if said else NO_LABEL


def _one_of(template: JudgeTemplate) -> str:
    """A pattern for the labels, longer ones first."""
    return "(" + "|".join(map(re.escape, sorted(template.labels, key=len, reverse=True))) + ")"


def _token(text: str, template: JudgeTemplate) -> list[tuple[int, str]]:
    label = text.strip(_MARKS)
    return [(text.index(label), label)] if label in template.labels else []


def _line(text: str, template: JudgeTemplate) -> list[tuple[int, str]]:
    """Only lines that begin with the prefix: the comparison before them names both labels."""
    prefix = re.escape(template.prefix.rstrip(":"))
    pattern = rf"^[\W_]*(?i:{prefix})[\W_]*(?i:{_NOUNS}){_one_of(template)}(?!\w|[<>=]+\s*\w)[^\w\n]*$"
    return [(match.start(1), match[1]) for match in re.finditer(pattern, text, re.MULTILINE)]


def _bracket(text: str, template: JudgeTemplate) -> list[tuple[int, str]]:
    for left, right in ((r"\[\[", r"\]\]"), (r"\[", r"\]")):
        found = [(match.start(1), match[1]) for match in re.finditer(left + _one_of(template) + right, text)]
        if found:
            return found
    return []


def _json(text: str, template: JudgeTemplate) -> list[tuple[int, str]]:
    """The object's own `verdict`, which may be there twice; where it stands, whatever else the object says."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        document = json.loads(text[begin : end + 1], object_pairs_hook=list)
    except (ValueError, RecursionError):
        return []
    pairs = document if isinstance(document, list) and all(isinstance(pair, tuple) for pair in document) else []
    said = [value for name, value in pairs if name == "verdict"]
    if not all(isinstance(label, str) and label in template.labels for label in said):
        return []
    places = {match[1]: match.start(1) for match in re.finditer(rf'"verdict"\s*:\s*"{_one_of(template)}"', text)}
    return [(places.get(label, -1), label) for label in said]


_FORMS = {"token": _token, "line": _line, "bracket": _bracket, "json": _json}
