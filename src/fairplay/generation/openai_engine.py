"""Responses by any OpenAI-compatible chat server: vLLM, SGLang, transformers serve, hosted models.

One request a sample, each with a seed of its own: servers ignore `n`, or number the seeds within it. Messages go in.
Text comes out, which training renders; or token ids with their log-probs, from a server that we start ourselves and
that tells them. Left out: patience, throttle, cost, cache and the server's process (`servers/`), whether its weights
are the policy's (`served.py`). Floor 4.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fairplay.errors import DataError, ServiceError
from fairplay.generation.contract import Generated
from fairplay.generation.served import TELLS_NO_IDS, Expected, check_weights, expected_of
from fairplay.generation.settings import POLICY, GenerationSettings
from fairplay.generation.transcriber import Transcriber
from fairplay.generation.vllm_process import free_memory
from fairplay.models.settings import ModelSettings
from fairplay.records import Dropped, Prompt, Response, ResponseGroup
from fairplay.servers.client import ChatClient
from fairplay.servers.hosting import HostedServer, start_server
from fairplay.servers.outcomes import CAP_REACHED, ENDS, REFUSED, Failure, Outcome, Reply
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
from fairplay.storage.digests import content_digest

logger = logging.getLogger(__name__)

PROMPT_FAULTS = {REFUSED: "refused by the server", "other prompt": "the server renders it otherwise than training"}
"""Reason of a failure that lies in one prompt -> why this is dropped; the others mean that less came than was asked."""
_SEEDS = 2**31  # some servers seed numpy, which takes 32 bits


class OpenaiEngine:
    """An engine that asks a server.

    Args:
        client: Asks the server; closed with the engine.
        settings: How to sample.
        transcriber: The policy's own, where the server answers with its weights: prompts that don't fit are not asked.
        hosted: The server, where it is our own; stopped with the engine.
    """

    def __init__(
        self,
        client: ChatClient,
        settings: GenerationSettings,
        transcriber: Transcriber | None = None,
        hosted: HostedServer | None = None,
    ) -> None:
        self.client, self.settings, self.transcriber, self.hosted = client, settings, transcriber, hosted
        self._warned = False

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses; see `contract.Engine.respond`. A prompt that the server refuses is dropped.

        Raises:
            ServiceError: If any sample did not come for another reason, or the server refuses every prompt: nothing is
                ever returned with fewer responses than were asked for.
        """
        if len(prompts) != len(seeds):
            raise DataError(f"{len(prompts)} prompts came with {len(seeds)} lists of seeds")
        ids, dropped = self.transcriber.encode(prompts) if self.transcriber else ({}, [])
        asked = [index for index in range(len(prompts)) if not self.transcriber or index in ids]
        rows = [(index, seed) for index in asked for seed in seeds[index]]
        responses: dict[int, list[Response]] = {index: [] for index in asked}
        refused: dict[int, Failure] = {}
        missing: list[Failure] = []
        for (index, seed), told in zip(rows, self._complete(prompts, rows), strict=True):
            outcome = self._read_prompt(told, ids.get(index, ()))
            if isinstance(outcome, Reply):
                responses[index].append(self._response(outcome, seed))
            elif outcome.reason in PROMPT_FAULTS:
                refused[index] = outcome
            else:
                missing.append(outcome)
        self._refuse_less_than_asked(missing, len(rows))
        if refused and len(refused) == len(asked):
            raise ServiceError(
                f"{self._where()}: refused each of {len(asked)} prompts ({next(iter(refused.values())).detail})",
                hint="does the server know these settings, and has its context room for max_new_tokens?",
            )
        self._warn_of_copies([own for index, own in responses.items() if index not in refused])
        groups = tuple(
            ResponseGroup(prompts[index], tuple(own), ids[index] if self._tells_ids else ())
            for index, own in responses.items()
            if index not in refused
        )
        faulty = [Dropped(prompts[index].id, PROMPT_FAULTS[failure.reason]) for index, failure in refused.items()]
        return Generated(groups, (*dropped, *faulty))

    def close(self) -> None:
        """Let go of connections and cache, and stop a server of our own."""
        self.client.close()
        if self.hosted:
            self.hosted.stop()

    @property
    def _tells_ids(self) -> bool:
        return self.hosted is not None and self.settings.serve.token_ids

    def _complete(self, prompts: Sequence[Prompt], rows: Sequence[tuple[int, int]]) -> list[Outcome]:
        try:
            outcomes = self.client.complete(
                [self._request(prompts[index], seed) for index, seed in rows], what="responses"
            )
        except ServiceError as error:
            self._refuse_ended(error)
            raise
        if any(isinstance(outcome, Failure) and outcome.reason not in PROMPT_FAULTS for outcome in outcomes):
            self._refuse_ended(None)
        return outcomes

    def _refuse_ended(self, error: ServiceError | None) -> None:
        """Where a server of our own is gone, its last words say more than a lost connection."""
        if self.hosted and self.hosted.has_ended:
            raise ServiceError(
                f"the server of serve.command is gone: {self.hosted.last_words()}",
                hint="run the same again: finished shards are kept",
            ) from error

    def _read_prompt(self, outcome: Outcome, prompt_ids: tuple[int, ...]) -> Outcome:
        """The outcome; a failure where the server read other tokens, such as control tokens that a text only names."""
        if isinstance(outcome, Failure) or not self._tells_ids or outcome.prompt_token_ids == prompt_ids:
            return outcome
        return Failure("other prompt", f"{len(outcome.prompt_token_ids)} tokens which are not our {len(prompt_ids)}")

    def _response(self, reply: Reply, seed: int) -> Response:
        (choice,) = reply.choices
        if self.transcriber and self._tells_ids:
            count, num_told = len(choice.token_ids), len(choice.positions)
            ended = count > 0 and choice.token_ids[-1] in self.transcriber.stop_ids
            if not count == num_told > 0 or ended != (choice.finish_reason == "stop"):
                raise DataError(
                    f"{self._where()}: a response of {count} tokens with {num_told} log-probs and "
                    f"{'an' if ended else 'no'} end token of the policy ended with `{choice.finish_reason}`",
                    hint=TELLS_NO_IDS,
                )
            logps = [position.logprob for position in choice.positions]
            return self.transcriber.response(choice.token_ids, logps, seed)
        return Response(text=choice.text, finish_reason=ENDS[choice.finish_reason], seed=seed)

    def _request(self, prompt: Prompt, seed: int) -> ChatRequest:
        return ChatRequest(
            prompt.messages,
            max_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            seed=seed % _SEEDS,
            top_logprobs=int(self._tells_ids),  # with them comes the sampled token's own
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


def start_openai(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> OpenaiEngine:
    """An engine that asks the server of the settings, started first where the settings say how.

    Args:
        settings: How to sample, and which server.
        model: The policy: where the server's model is named `{policy}`, this is the name that is asked for. If the
            server is to answer with its weights, that is checked.
        model_settings: How training loads it.

    Raises:
        SettingsError: If a key is needed and not there, or a command is no command.
        ServiceError: If the server does not start or answer.
        DataError: If its weights are not the policy's.
        DataError, ResourceError: If the cache of replies can't be used.
    """
    place = Path(model).expanduser()
    name = str(place.resolve()) if place.is_dir() else model
    server = replace(settings.server, model=settings.server.model.replace(POLICY, name))
    if server.cache and not server.identity:  # a name is no promise about weights
        whose = "serve.command" if settings.serve.command else server.base_url
        server = replace(server, identity=f"{whose} {content_digest(model)}")
    if not settings.serves_policy:
        return OpenaiEngine(ChatClient(server), settings)
    expected = expected_of(model, settings, model_settings)
    free_memory()
    if not settings.serve.command:
        _check_weights(server, expected, token_ids=False)
        return OpenaiEngine(ChatClient(server), settings, expected.transcriber)
    if settings.serve.token_ids:
        server = replace(server, extra_body={**server.extra_body, "return_token_ids": True})
    hosted = start_server(settings.serve.command, model=name, start_timeout=settings.serve.start_timeout)
    server = replace(server, base_url=hosted.url, api_key_env="")
    try:
        _check_weights(server, expected, token_ids=settings.serve.token_ids)
        client = ChatClient(server, log_probs_hint=TELLS_NO_IDS)
        return OpenaiEngine(client, settings, expected.transcriber, hosted)
    except BaseException:
        hosted.stop()
        raise


def _check_weights(server: ServerSettings, expected: Expected, *, token_ids: bool) -> None:
    fresh = replace(server, cache="")  # what a server said once is no proof of what it holds now
    with ChatClient(fresh, log_probs_hint=TELLS_NO_IDS) as client:
        check_weights(client, expected, token_ids=token_ids)
