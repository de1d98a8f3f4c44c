"""Asks a chat model which of two responses is better, question by question.

Left out: which questions are asked: all pairs of a group (`llm_judge.py`), a protocol's games
(`evaluation/protocols`). Floor 4; imports no torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fairplay.oracles.judge_template import JudgeTemplate, conversation_text
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict, read_verdict
from fairplay.records import Prompt
from fairplay.servers.client import ChatClient
from fairplay.servers.outcomes import Choice, Failure
from fairplay.servers.requests import ChatRequest

Read = Callable[[Choice], Verdict | NoVerdict]


@dataclass(frozen=True, slots=True)
class PairQuestion:
    """Two responses to one prompt, in the order in which they are shown."""

    prompt: Prompt
    first: str
    second: str


class PairJudge:
    """A judge: a server, a template, and how its replies are read.

    Args:
        client: Where to ask.
        template: What to ask.
        log_probs: Whether verdicts are weighed by log-probs, where the template allows it.
        min_mass: Probability that the labels must have together.
        seed: Of the codes in the questions' marks.
        read: How a reply is read; by default as the template says.
    """

    def __init__(
        self,
        client: ChatClient,
        template: JudgeTemplate,
        *,
        log_probs: bool = True,
        min_mass: float = 0.5,
        seed: int = 0,
        read: Read | None = None,
    ) -> None:
        self.client, self.template, self.seed = client, template, seed
        self.log_probs = log_probs and template.log_probs
        self._read = read or self._as_asked
        self._min_mass = min_mass

    def request(self, question: PairQuestion) -> ChatRequest:
        """What is sent for a question."""
        template = self.template
        fields = {
            "prompt": conversation_text(question.prompt.messages),
            "first": question.first,
            "second": question.second,
        }
        asked = ChatRequest(
            template.messages(fields, seed=self.seed),
            max_tokens=template.max_tokens,
            temperature=template.temperature,
            top_logprobs=template.top_logprobs if self.log_probs else 0,
            must_end=template.answer != "token",
        )
        if template.answer != "json":
            return asked
        labels = {"type": "string", "enum": list(template.labels)}
        schema = {"type": "object", "properties": {"verdict": labels}, "required": ["verdict"]}
        return replace(asked, schema=json.dumps(schema | {"additionalProperties": False}))

    def ask(
        self, questions: Sequence[PairQuestion], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Verdict | NoVerdict]:
        """The verdict on each question, in their order; why there is none, where there is none.

        Raises:
            ServiceError: If the server can't be asked at all.
            Preempted: If `should_stop` said so; what was answered is in the client's cache.
        """
        requests = [self.request(question) for question in questions]
        verdicts: list[Verdict | NoVerdict] = []
        for outcome in self.client.complete(requests, what="judging", should_stop=should_stop):
            if isinstance(outcome, Failure):
                verdicts.append(NoVerdict(outcome.reason, outcome.detail))
            else:
                verdicts.append(self._read(outcome.choices[0]))
        return verdicts

    def _as_asked(self, choice: Choice) -> Verdict | NoVerdict:
        return read_verdict(choice, self.template, log_probs=self.log_probs, min_mass=self._min_mass)
