"""What a judge is shown and how its answer is to be read: templates with placeholders, each with a hash.

Left out: sending (`servers/`), reading answers (`judge_verdicts.py`). Floor 4; imports no torch. A template is a YAML
file; the built-in ones lie in `templates/`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from fairplay.errors import SettingsError
from fairplay.lookup import nearest_hint
from fairplay.records import Message
from fairplay.seeds import stable_seed
from fairplay.storage.digests import sha256_value
from fairplay.storage.settings_file import build_settings, read_yaml, settings_document

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".yaml"
PAIR_FIELDS = ("prompt", "first", "second")
PAIR_FORMS = ("token", "line", "bracket", "json")

ANSWERS: Mapping[str, str] = {
    "token": "the reply is a label and nothing else",
    "line": "a line of the reply is `prefix`, then a label",
    "bracket": "the reply has a label in double square brackets",
    "rating": "the reply has a grade from 1 to 10 in double square brackets; for single responses",
    "json": 'the reply is {"verdict": label}; the server is asked to keep to that',
}


@dataclass(frozen=True)
class JudgeTemplate:
    """A judge's question, and how its answer is read.

    Attributes:
        user: The question; `{prompt}`, `{first}` and `{second}` stand for what is judged, `{nonce}` for a code that
            differs from question to question, for marks that no response can forge.
        labels: What the judge may answer -> P(the first-shown response wins) that it stands for.
        system: What is said before, with the same placeholders.
        answer: The answer's form, a name in `ANSWERS`.
        prefix: What begins the line with the verdict, for `line`.
        max_tokens: Tokens of an answer.
        temperature: At which the judge is sampled.
        log_probs: Whether labels can be weighed by their log-probs: each has to be one token.
        top_logprobs: How many of the likeliest tokens are asked for then.
        source: Where the wording comes from.
    """

    user: str
    labels: dict[str, float]
    system: str = ""
    answer: str = "token"
    prefix: str = ""
    max_tokens: int = 16
    temperature: float = 0.0
    log_probs: bool = True
    top_logprobs: int = 20
    source: str = ""

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise SettingsError(f"answer: unknown form `{self.answer}`", hint=nearest_hint(self.answer, ANSWERS))
        if (self.answer == "line") != bool(self.prefix):
            raise SettingsError("prefix: belongs to answers of the form `line`, which need one")
        if self.answer == "rating":
            if self.labels or self.log_probs:
                raise SettingsError("labels, log_probs: a rating is read from its number")
        elif len(self.labels) < 2 or not all(label and label.strip() == label for label in self.labels):
            raise SettingsError("labels: at least two are needed, without blanks at their ends")
        if not all(isfinite(value) and 0 <= value <= 1 for value in self.labels.values()):
            raise SettingsError("labels: each stands for a win probability of the first-shown response, in [0, 1]")
        if self.max_tokens < 1 or self.temperature < 0 or not 1 <= self.top_logprobs <= 20:
            raise SettingsError("max_tokens >= 1, temperature >= 0 and top_logprobs from 1 to 20 are needed")

    @property
    def sha256(self) -> str:
        """Hash of all that a judge sees and of how its answer is read."""
        return sha256_value(settings_document(self) | {"source": ""})

    def messages(self, fields: Mapping[str, str], *, seed: int) -> tuple[Message, ...]:
        """The question with its fields filled in, in one pass: placeholders inside the fields stay text.

        Args:
            fields: Placeholder -> text.
            seed: Of the judge; the nonce is a hash of it and of the fields, so that a question asked again is equal.
        """
        nonce = _nonce(fields, seed)
        known = {**fields, "nonce": nonce}
        pattern = re.compile("{(" + "|".join(map(re.escape, known)) + ")}")
        filled = [pattern.sub(lambda found: known[found[1]], text) for text in (self.system.strip(), self.user.strip())]
        system, user = filled
        return (*((Message("system", system),) if system else ()), Message("user", user))


def load_template(name: str, *, needs: Sequence[str] = PAIR_FIELDS, forms: Sequence[str] = PAIR_FORMS) -> JudgeTemplate:
    """A built-in template by name, or one's own by its path.

    Args:
        name: A name of the built-in ones, or a YAML file.
        needs: Placeholders that its question must have.
        forms: Forms that its answer may have, names in `ANSWERS`.

    Raises:
        SettingsError: If there is no such template, or it is not what a template has to be.
    """
    path = template_path(name)
    template = build_settings(JudgeTemplate, read_yaml(path), str(path))
    if template.answer not in forms:
        raise SettingsError(f"{path}: answers of the form `{template.answer}` are no good here", hint=f"{forms}")
    missing = [field for field in needs if f"{{{field}}}" not in template.system + template.user]
    if missing:
        raise SettingsError(f"{path}: the question has no {{{missing[0]}}}", hint=f"it needs all of {', '.join(needs)}")
    return template


def template_path(name: str) -> Path:
    """The file of a built-in template, or of one's own.

    Raises:
        SettingsError: If no built-in template has this name.
    """
    if name.endswith((SUFFIX, ".yml")):
        return Path(name).expanduser()
    known = [one.name.removesuffix(SUFFIX) for one in TEMPLATES.glob(f"*{SUFFIX}")]
    if name not in known:
        hint = nearest_hint(name, known)
        raise SettingsError(
            f"template: unknown template `{name}`", hint=f"{hint}; one's own is a file that ends in {SUFFIX}"
        )
    return TEMPLATES / f"{name}{SUFFIX}"


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as a judge reads it: a single question as it is, more turns with who speaks."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def _nonce(fields: Mapping[str, str], seed: int) -> str:
    """Twelve digits that are in none of the fields."""
    text = "\n".join(fields.values())
    number = 0
    while (nonce := f"{stable_seed(seed, 'fence', number, text) >> 15:012x}") in text:
        number += 1
    return nonce
