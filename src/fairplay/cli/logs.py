"""What the command line shows of the log, on stderr.

Left out: results (stdout) and bars (`progress.py`). Floor 8.
"""

import logging
from collections import Counter

TOLD_BY_DEFAULT = ("fairplay.pipeline", "fairplay.starter", "fairplay.progress")  # a line a stage, and its progress
NUM_ALIKE = 5


class FewAlike(logging.Filter):
    """Lets the first warnings of each wording through, so that twenty thousand dropped prompts are not as many lines.

    A wording is the message without what is filled in; where all of it is, each message is its own. Errors always
    pass, and so does what is less than a warning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[tuple[str, str]]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record; after the last one of its wording that is, the reader is told."""
        has_wording = any(letter.isalpha() for letter in str(record.msg).replace("%s", ""))
        if record.levelno != logging.WARNING or not has_wording:
            return True
        kind = (record.name, str(record.msg))
        self.seen[kind] += 1
        if self.seen[kind] == NUM_ALIKE:
            record.msg = f"{record.msg} (more warnings of this kind are not shown; `fairplay --verbose` shows all)"
        return self.seen[kind] <= NUM_ALIKE


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
