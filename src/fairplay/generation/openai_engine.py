"""Responses by any OpenAI-compatible chat server: vLLM, SGLang, transformers serve, hosted models.

One request a sample, each with a seed of its own: servers ignore `n`, or number the seeds within it. Messages go in and
text comes out, so the records have no token ids; training renders them. Left out: patience, throttle, cost and cache
(`servers/`), and what a server keeps to itself: the length of prompts in tokens, log-probs by token id. Floor 4.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from fairplay.errors import DataError, ServiceError
from fairplay.generation.contract import Generated
from fairplay.generation.settings import POLICY, GenerationSettings
from fairplay.records import Dropped, FinishReason, Prompt, Response, ResponseGroup
from fairplay.servers.client import ChatClient
from fairplay.servers.outcomes import CAP_REACHED, REFUSED, Failure, Reply
from fairplay.servers.requests import ChatRequest
from fairplay.storage.digests import content_digest

logger = logging.getLogger(__name__)

PROMPT_REFUSED = "refused by the server"
_SEEDS = 2**31  # some servers seed numpy, which takes 32 bits


class OpenaiEngine:
    """An engine that asks a server.

    Args:
        client: Asks the server; closed with the engine.
        settings: How to sample.
    """

    def __init__(self, client: ChatClient, settings: GenerationSettings) -> None:
        self.client, self.settings = client, settings
        self._warned = False

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses; see `contract.Engine.respond`. A prompt that the server refuses is dropped.

        Raises:
            ServiceError: If any sample did not come for another reason, or the server refuses every prompt: nothing is
                ever returned with fewer responses than were asked for.
        """
        if len(prompts) != len(seeds):
            raise DataError(f"{len(prompts)} prompts came with {len(seeds)} lists of seeds")
        rows = [(index, seed) for index, own in enumerate(seeds) for seed in own]
        outcomes = self.client.complete([self._request(prompts[index], seed) for index, seed in rows], what="responses")
        responses: dict[int, list[Response]] = {index: [] for index in range(len(prompts))}
        refused: dict[int, Failure] = {}
        missing: list[Failure] = []
        for (index, seed), outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Reply):
                responses[index].append(_response(outcome, seed))
            elif outcome.reason == REFUSED:
                refused[index] = outcome
            else:
                missing.append(outcome)
        self._refuse_less_than_asked(missing, len(rows))
        if refused and len(refused) == len(prompts):
            raise ServiceError(
                f"{self._where()}: refused each of {len(prompts)} prompts ({next(iter(refused.values())).detail})",
                hint="does the server know these settings, and has its context room for max_new_tokens?",
            )
        self._warn_of_copies([own for index, own in responses.items() if index not in refused])
        groups = tuple(
            ResponseGroup(prompts[index], tuple(own)) for index, own in responses.items() if index not in refused
        )
        return Generated(groups, tuple(Dropped(prompts[index].id, PROMPT_REFUSED) for index in refused))

    def close(self) -> None:
        """Let go of connections and cache."""
        self.client.close()

    def _request(self, prompt: Prompt, seed: int) -> ChatRequest:
        return ChatRequest(
            prompt.messages,
            max_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            seed=seed % _SEEDS,
        )

    def _where(self) -> str:
        return f"{self.client.settings.base_url} ({self.client.settings.model})"

    def _refuse_less_than_asked(self, missing: Sequence[Failure], asked: int) -> None:
        if not missing:
            return
        reasons = Counter(failure.reason for failure in missing)
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        capped = "raise the cap" if CAP_REACHED in reasons else "see that the server is well"
        raise ServiceError(
            f"{self._where()}: {len(missing)} of {asked} responses did not come: {told} ({missing[-1].detail})",
            hint=f"{capped} and run the same again: finished shards are kept, and with server.cache all replies",
        )

    def _warn_of_copies(self, groups: Sequence[Sequence[Response]]) -> None:
        """Warn, once, of a server that seems not to sample: every response to a prompt the same."""
        several = [own for own in groups if len(own) > 1]
        copies = sum(len({response.text for response in own}) == 1 for own in several)
        if copies and self.settings.temperature > 0.0 and not self._warned:
            self._warned = True
            logger.warning(
                "%s: %d of %d prompts got the same response every time, at temperature %g: does the server sample? "
                "transformers serve does so only if the model's generation_config.json has do_sample: true",
                *(self._where(), copies, len(several), self.settings.temperature),
            )


def start_openai(settings: GenerationSettings, model: str) -> OpenaiEngine:
    """An engine that asks the server of the settings.

    Args:
        settings: How to sample, and which server.
        model: The policy: where the server's model is named `{policy}`, this is the name that is asked for.

    Raises:
        SettingsError: If a key is needed and not there.
        DataError, ResourceError: If the cache of replies can't be used.
    """
    server = settings.server
    if server.cache and not server.identity:  # a name is no promise about weights
        server = replace(server, identity=f"{server.base_url} {content_digest(model)}")
    place = Path(model).expanduser()
    name = str(place.resolve()) if place.is_dir() else model
    return OpenaiEngine(ChatClient(replace(server, model=server.model.replace(POLICY, name))), settings)


def _response(reply: Reply, seed: int) -> Response:
    (choice,) = reply.choices
    known: dict[str, FinishReason] = {reason: reason for reason in get_args(FinishReason)}
    return Response(text=choice.text, finish_reason=known.get(choice.finish_reason, "stop"), seed=seed)
