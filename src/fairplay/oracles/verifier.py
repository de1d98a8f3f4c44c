"""The verifier: a response is right (1 point) or wrong (none), by a reference answer or an expression.

A response from which no answer can be read is wrong; a prompt without a reference is an error, for then nobody knows.
Left out: programs that are run to see what they do. Floor 4; imports no torch.

Source: the last number of a response: Cobbe et al. 2021, arXiv:2110.14168 (GSM8K).
"""

import re
from collections.abc import Callable, Mapping
from math import isclose
from types import MappingProxyType

from fairplay.errors import DataError
from fairplay.oracles.kinds.verifier import VerifierSettings
from fairplay.oracles.prompt_rows import Messages, prompt_rows
from fairplay.oracles.rule import RuleOracle
from fairplay.records import Prompt

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_FINAL = "####"
_CLOSE = 1e-9


def is_same_text(answer: str, reference: str) -> bool:
    """Whether two answers have the same words; white space does not count."""
    return answer.split() == reference.split()


def is_same_number(answer: str, reference: str) -> bool:
    """Whether the last numbers of two answers are equal, to nine digits; False where the answer has none."""
    found, wanted = last_number(answer), last_number(reference)
    return found is not None and wanted is not None and isclose(found, wanted, rel_tol=_CLOSE, abs_tol=_CLOSE)


def last_number(text: str) -> float | None:
    """The last number of a text, after its last `####` if it has one; None where there is none.

    Commas within it are dropped; what stands around it, such as a currency or a percent sign, does not count.
    """
    numbers = _NUMBER.findall(text.rpartition(_FINAL)[2])
    return float(numbers[-1].replace(",", "")) if numbers else None


def matches(answer: str, reference: str) -> bool:
    """Whether the reference, a regular expression, is found in the answer."""
    return re.search(reference, answer) is not None


CHECKS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {"exact": is_same_text, "numeric": is_same_number, "regex": matches}
)


def build_verifier(settings: VerifierSettings) -> RuleOracle:
    """The verifier that the settings name.

    Raises:
        DataError: If the answers can't be read, one prompt has two of them, or one is not what the check needs; the
            message says where.
    """
    references = read_references(settings) if settings.answers else {}
    of_all, place = (settings.pattern, "") if settings.check == "regex" else ("", settings.pattern)
    told = [f"{source.name}@{source.short_digest()}" for source in settings.sources().values()]

    def points(prompt: Prompt, text: str) -> float:
        reference = of_all or references.get(prompt.messages)
        if reference is None:
            raise DataError(
                f"prompt {prompt.id}: no reference answer in {settings.answers}",
                hint="the file must have a row with the very same prompt; a response is not wrong for want of one",
            )
        answer = answer_in(text, place) if place else text
        return float(answer is not None and CHECKS[settings.check](answer, reference))

    return RuleOracle(
        points,
        identity=":".join([settings.check, *(told or [of_all])]),
        temperature=settings.temperature,
        kind=settings.kind,
    )


def answer_in(text: str, pattern: str) -> str | None:
    """The first group of the last match of a pattern, or the match where it has no group; None without a match."""
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    return found[-1][1] if found[-1].re.groups else found[-1][0]


def read_references(settings: VerifierSettings) -> dict[Messages, str]:
    """Reference answers by the prompt's messages.

    Raises:
        DataError: As `build_verifier`.
    """
    references: dict[Messages, str] = {}
    for where, messages, columns in prompt_rows(settings.answers, settings.prompt_column):
        answer = columns.get(settings.answer_column)
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise DataError(
                f"{where}: `{settings.answer_column}` must be a text or a number, not {answer!r:.40}",
                hint=f"it has {', '.join(sorted(columns))}",
            )
        reference = str(answer)
        fault = _FAULTS[settings.check](reference)
        if fault:
            raise DataError(f"{where}: the reference answer {reference!r:.40} {fault}")
        if references.setdefault(messages, reference) != reference:
            raise DataError(f"{where}: the prompt has another reference answer before", hint="keep one of the two")
    return references


def _fault_of_text(reference: str) -> str:
    return "" if reference.split() else "is empty"


def _fault_of_number(reference: str) -> str:
    return "" if last_number(reference) is not None else "has no number"


def _fault_of_expression(reference: str) -> str:
    try:
        re.compile(reference)
    except re.error as error:
        return f"is no regular expression: {error}"
    return _fault_of_text(reference)


_FAULTS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"exact": _fault_of_text, "numeric": _fault_of_number, "regex": _fault_of_expression}
)
