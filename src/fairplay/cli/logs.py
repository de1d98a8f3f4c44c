"""What the command line shows of the log, on stderr.

Left out: results (stdout) and bars (`progress.py`). Floor 8.
"""

import logging
import re
from collections import Counter, defaultdict

TOLD_BY_DEFAULT = ("fairplay.pipeline", "fairplay.starter", "fairplay.progress")  # a line a stage, and its progress
NUM_ALIKE = 5
NUM_REASONS = 20
_FILLED_IN = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z%]")


class FewAlike(logging.Filter):
    """Lets the first warnings of each wording through, so that twenty thousand dropped prompts are not as many lines.

    A wording is the message without what is filled in, with the reason where one is filled in at its end after a colon;
    where all of it is filled in, each message is its own. Of one wording the first `NUM_REASONS` reasons are told
    apart, all others count as one. Errors always pass, and so does what is less than a warning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[tuple[str, str, str]]()
        self.reasons = defaultdict[tuple[str, str], set[str]](set)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record; after the last one of its wording that is, the reader is told."""
        has_wording = any(letter.isalpha() for letter in _FILLED_IN.sub("", str(record.msg)))
        if record.levelno != logging.WARNING or not has_wording:
            return True
        kind = (record.name, str(record.msg), self._reason(record))
        self.seen[kind] += 1
        if self.seen[kind] == NUM_ALIKE:
            record.msg = f"{record.msg} (more warnings of this kind are not shown; `fairplay --verbose` shows all)"
        return self.seen[kind] <= NUM_ALIKE

    def _reason(self, record: logging.LogRecord) -> str:
        """The reason without numbers and without what else is filled in, such as a prompt's id; else empty."""
        given = record.args if isinstance(record.args, tuple) else ()
        if not (str(record.msg).endswith(": %s") and given and isinstance(given[-1], str)):
            return ""
        reason = given[-1]
        for text in given[:-1]:
            reason = re.sub(rf"(?<!\w){re.escape(str(text))}(?!\w)", "", reason)
        reason = re.sub(r"\d+", "", reason)
        told_apart = self.reasons[record.name, str(record.msg)]
        if len(told_apart) < NUM_REASONS:
            told_apart.add(reason)
        return reason if reason in told_apart else "any other"


def show_log(*, verbose: bool) -> None:
    """Put the log on stderr, a line a message.

    Args:
        verbose: Everything there is; else what a user has to know, and a line a stage.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    if not verbose:
        handler.addFilter(FewAlike())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    levels = {"fairplay": logging.DEBUG} if verbose else dict.fromkeys(TOLD_BY_DEFAULT, logging.INFO)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
