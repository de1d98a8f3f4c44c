"""What can be wrong with a row of a user's data: the reasons, how grave each is, and how to mend it.

Left out: where rows come from (`sources.py`) and what is found in usable rows (`findings.py`). Floor 2.
A reason is a short fixed phrase, so that counts by reason add up over files, manifests and reports.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row is left out, or what a reader of the data must know about it.

    Attributes:
        phrase: The fixed phrase that is counted.
        severity: `error` (the whole data is refused), `warning` (left out and training goes on, or kept and doubtful),
            `info` (kept).
        hint: How to mend it.
        structural: Whether the row is not what the file claims to hold, so that strict reading refuses the file.
    """

    phrase: str
    severity: Severity
    hint: str
    structural: bool = False


def _structural(phrase: str, hint: str) -> Reason:
    return Reason(phrase, "error", hint, structural=True)


def _content(phrase: str, hint: str) -> Reason:
    return Reason(phrase, "warning", hint)


class RowFault(Exception):
    """A row can't be used; caught by the reader, which counts it.

    Args:
        reason: Which of the reasons below.
        detail: What exactly, in a few words; never the text of the row.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.phrase}: {detail}" if detail else reason.phrase)
        self.reason = reason
        self.detail = detail


INVALID_JSON = _structural("invalid JSON", "each line is one JSON object; mend or delete the line")
TORN_LINE = _structural("torn last line", "the file ends in the middle of a row; copy or download it again")
NOT_UTF8 = _structural("not UTF-8", "convert the file to UTF-8")
NOT_AN_OBJECT = _structural("not a JSON object", "each row is an object with named columns")
MISSING_VALUE = _structural("missing value", "every row has the same columns; fill the value or delete the row")
WRONG_TYPE = _structural("value of the wrong type", "texts are strings, messages are lists of {role, content}")
MIXED_KINDS = _structural("text and message lists mixed", "write the column in one way throughout the data")
LONE_SURROGATE = _structural("lone surrogate in a text", "the text is not valid Unicode; mend the step that wrote it")
EMPTY_PROMPT = _structural("empty prompt", "a prompt ends with a user turn that says something")
NOT_A_DIALOGUE = _structural("not a dialogue", r"each text begins with \n\nHuman: and has \n\nAssistant: turns")
UNKNOWN_ROLE = _structural("unknown role", "roles are system, user and assistant")
ROLES_OUT_OF_ORDER = _structural(
    "roles out of order", "an optional system turn comes first, then user and assistant turns alternate"
)
NO_FINAL_ASSISTANT = _structural("no final assistant turn", "the last turn is the response and has role assistant")
SEVERAL_TURNS = _structural("response of several turns", "put all turns but the last into the prompt")
NOT_FINITE = _structural("number missing or not finite", "scores are finite; win rates lie in [0, 1]")
WRONG_COUNT = _structural("as many numbers as responses needed", "give one score or win rate for each response")
NOT_A_LABEL = _structural("label is not true or false", "labels are true or false (or 1 and 0)")
DUPLICATE_ID = _structural("duplicate id", "ids are unique; delete the id column to have ids made from the content")

NO_RESPONSE = _content("no response", "the column is empty in this row")
EMPTY_RESPONSE = _content("empty response", "delete the row or fill the response")
IDENTICAL_RESPONSES = _content("identical responses", "there is nothing to prefer; delete the row")
EQUAL_SCORES = _content("all responses score the same", "there is nothing to prefer; delete the row")
FEW_RESPONSES = _content("fewer than two responses", "a preference needs at least two responses")
DUPLICATE_ROW = _content("duplicate row", "the same content stands in an earlier row")
PROMPTS_DIFFER = _content(
    "chosen and rejected answer different prompts", "both dialogues are the same up to the last assistant turn"
)
PROMPT_COLUMN_DIFFERS = _content(
    "prompt column differs from the dialogue", "delete the prompt column, or make it the dialogue's prompt"
)
TURNS_OUT_OF_ORDER = _content("dialogue turns out of order", "Human and Assistant turns alternate")

CONTROL_TOKEN = Reason("control token in a text", "warning", "remove chat-template tokens; the template adds its own")
CONFLICT = Reason("conflicting preferences", "warning", "the same responses are preferred both ways; keep one")
SCORES_DISAGREE = Reason("chosen scores no higher than rejected", "warning", "look at how the pair was chosen")
TRUNCATED = Reason("response looks cut off", "warning", "check the length limit of the step that wrote it")
CHOSEN_LONGER = Reason("chosen is nearly always the longer one", "warning", "length alone tells what is preferred")
CHOSEN_SHORTER = Reason("chosen is nearly always the shorter one", "warning", "length alone tells what is preferred")
EMPTY_TURN = Reason("empty turn inside the prompt", "warning", "fill the turn or delete it")
REPEATS_PROMPT = Reason("response repeats the prompt", "warning", "write the prompt in the prompt column only")
NUL = Reason("NUL character in a text", "warning", "it is kept; some tools cut texts there")
OVERLAP = Reason("prompt also in the other data", "warning", "keep training and test prompts apart")
DUPLICATE_PROMPT = Reason("duplicate prompt", "info", "several rows share a prompt")
