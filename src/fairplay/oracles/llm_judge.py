"""The LLM judge as an oracle: a chat model compares every ordered pair of responses.

Left out: its settings (`kinds/llm_judge.py`), the published protocols (`evaluation/protocols`). Floor 4; no torch.
"""

import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from math import log

from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.oracles.pair_judge import PairJudge, PairQuestion
from fairplay.oracles.unserved import refuse_unserved
from fairplay.records import PreferenceGroup, ResponseGroup
from fairplay.stopping import stop_asked
from fairplay.wording import reasons

logger = logging.getLogger(__name__)

SURE_LOGIT = 20.0
"""The logit of a verdict in words, and the largest of any: a win probability of 1 - 2e-9."""


class LlmJudgeOracle:
    """Asks about every ordered pair of different texts; equal texts tie unasked.

    Where the judge gave no verdict the entry is None, in both orders if need be: never a tie, never a loss. Where it
    was never really asked (`unserved.py`) the command ends.

    Args:
        judge: Who is asked.
        temperature: Divides the logits.
    """

    def __init__(self, judge: PairJudge, *, temperature: float) -> None:
        self.judge, self.temperature = judge, temperature
        model = judge.client.settings.model
        self.name = f"llm_judge:{model}#{judge.template.sha256[:12]}"
        weakref.finalize(self, judge.client.close)

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`.

        Raises:
            ServiceError: If the server can't be asked at all, or left questions unanswered; see `unserved.py`.
            Preempted: If a stop was asked for; what was answered is in the client's cache.
        """
        asked = [list(_pairs(group)) for group in groups]
        questions = [
            PairQuestion(group.prompt, group.responses[i].text, group.responses[j].text)
            for group, pairs in zip(groups, asked, strict=True)
            for i, j in pairs
        ]
        told = self.judge.ask(questions, should_stop=stop_asked)
        self._tell()
        refuse_unserved(told, self.judge.client.settings)
        verdicts = iter(told)
        return [
            _judged(group, {pair: next(verdicts) for pair in pairs}) for group, pairs in zip(groups, asked, strict=True)
        ]

    def _tell(self) -> None:
        """One line on what the server was asked so far."""
        account = self.judge.client.accounting()
        logger.info(
            "%s: %d questions, %d answered, of these %d known before; %s; %d tokens, cost %.4g",
            *(self.name, account.requested, account.ok, account.cached, reasons(account.failures) or "none failed"),
            *(account.prompt_tokens + account.completion_tokens, account.cost),
        )


def _judged(group: ResponseGroup, told: Mapping[tuple[int, int], Verdict | NoVerdict]) -> PreferenceGroup:
    size = len(group.responses)
    logits: list[list[float | None]] = [[0.0] * size for _ in range(size)]
    missing = []
    for (i, j), verdict in told.items():
        if isinstance(verdict, NoVerdict):
            logger.warning("prompt %s, responses %d and %d: %s", group.prompt.id, i, j, verdict.reason)
            logits[i][j] = None
            missing.append(verdict.reason)
        else:
            logits[i][j] = _logit(verdict.win_prob)
    return PreferenceGroup(group, tuple(map(tuple, logits)), (False,) * size, missing=tuple(missing))


def _pairs(group: ResponseGroup) -> Iterator[tuple[int, int]]:
    texts = [response.text for response in group.responses]
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            if one != other:
                yield i, j


def _logit(win_prob: float) -> float:
    if not 0 < win_prob < 1:
        return SURE_LOGIT if win_prob > 0.5 else -SURE_LOGIT
    return max(-SURE_LOGIT, min(SURE_LOGIT, log(win_prob) - log(1 - win_prob)))
