"""Responses by transformers' own `generate`: batches sorted by length, KV cache, K samples of a prompt in one pass.

Everything in `generate` that shapes the distribution is off, whatever the checkpoint asks for; tokens are drawn by
`sampling.py`. Left out: loading (`models/`), where seeds come from (the caller), files. Floor 4.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from fairplay.errors import DataError, ResourceError, SettingsError
from fairplay.generation.contract import Generated
from fairplay.generation.sampling import InverseCdfSampler
from fairplay.generation.settings import GenerationSettings
from fairplay.models.adapters import scoring_mode
from fairplay.models.chat import ChatEncoder, ChatRefused, stop_token_ids
from fairplay.models.loading import Policy, configure_threads
from fairplay.records import Dropped, Prompt, Response, ResponseGroup

logger = logging.getLogger(__name__)

PROMPT_TOO_LONG = "prompt too long"
PROMPT_REFUSED = "refused by the chat template"


class TransformersEngine:
    """An engine that samples from a policy in this process.

    Args:
        policy: Left as it is: its mode and its generation config are put back after every batch.
        settings: How to sample.

    Raises:
        DataError: If nothing would ever end a response.
        SettingsError: If the model's context has no room for any prompt.
    """

    def __init__(self, policy: Policy, settings: GenerationSettings) -> None:
        self.settings = settings
        self.tokenizer = policy.tokenizer
        self.model = cast(Any, policy.model)
        self.encoder = ChatEncoder(policy.tokenizer)
        self.stop_ids = stop_token_ids(policy.tokenizer, self.model.generation_config)
        self.room = self._room_for_prompts()
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses; see `contract.Engine.respond`.

        Raises:
            ResourceError: If memory ran out.
        """
        if len(prompts) != len(seeds):
            raise DataError(f"{len(prompts)} prompts came with {len(seeds)} lists of seeds")
        if self.model.device.type == "cpu":
            configure_threads(self.num_parameters)
        prompt_ids, dropped = self._encode(prompts)
        responses: dict[int, list[Response]] = {index: [] for index in prompt_ids}
        for rows in self._batches(prompt_ids, seeds):
            generated = self._generate([prompt_ids[index] for index, _ in rows], [seed for _, seed in rows])
            for (index, seed), token_ids in zip(rows, generated, strict=True):
                responses[index].append(self._response(token_ids, seed))
        groups = tuple(ResponseGroup(prompts[index], tuple(responses[index]), ids) for index, ids in prompt_ids.items())
        return Generated(groups, tuple(dropped))

    def _room_for_prompts(self) -> int:
        """Tokens that a prompt may have, so that the longest response still fits into the model's context."""
        room = self.settings.max_prompt_length
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None:
            room = min(room, context - self.settings.max_new_tokens)
        if room < 1:
            raise SettingsError(
                f"generation.max_new_tokens: {self.settings.max_new_tokens} leaves no room for a prompt "
                f"in the model's context of {context} tokens",
                hint="lower it",
            )
        return room

    def _encode(self, prompts: Sequence[Prompt]) -> tuple[dict[int, tuple[int, ...]], list[Dropped]]:
        """Ids of the prompts that can be responded to, by their index, and the dropped prompts."""
        kept: dict[int, tuple[int, ...]] = {}
        dropped: list[Dropped] = []
        for index, prompt in enumerate(prompts):
            try:
                ids = self.encoder.prompt(prompt.messages)
            except ChatRefused as refusal:
                logger.warning("prompt %s dropped: %s", prompt.id, refusal.message)
                dropped.append(Dropped(prompt.id, PROMPT_REFUSED))
                continue
            if len(ids) > self.room:
                dropped.append(Dropped(prompt.id, PROMPT_TOO_LONG))
            else:
                kept[index] = ids
        return kept, dropped

    def _batches(
        self, prompt_ids: dict[int, tuple[int, ...]], seeds: Sequence[Sequence[int]]
    ) -> Iterator[list[tuple[int, int]]]:
        """(prompt index, seed) of the rows of each batch, prompts of like length together, a prompt's rows in order."""
        ordered = sorted(prompt_ids, key=lambda index: (len(prompt_ids[index]), index))
        rows = [(index, seed) for index in ordered for seed in seeds[index]]
        for start in range(0, len(rows), self.settings.batch_size):
            yield rows[start : start + self.settings.batch_size]

    def _generate(self, prompts: list[tuple[int, ...]], seeds: list[int]) -> list[tuple[int, ...]]:
        """Sampled ids of each row, its stop token included where it has one."""
        settings, device = self.settings, self.model.device
        width = max(map(len, prompts))
        pad = self.stop_ids[0]
        input_ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        attention_mask = (torch.arange(width, device=device) >= (width - lengths)[:, None]).long()
        processors = LogitsProcessorList()
        if settings.temperature > 0.0:
            processors.append(
                InverseCdfSampler(
                    seeds,
                    settings.max_new_tokens,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    device=device,
                )
            )
        greedy = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(self.stop_ids),
            pad_token_id=pad,
            use_cache=True,
        )
        try:
            with scoring_mode(self.model), _without_sampling_rules(self.model):
                sequences: Tensor = self.model.generate(
                    input_ids, attention_mask=attention_mask, generation_config=greedy, logits_processor=processors
                )
        except torch.OutOfMemoryError as error:
            raise ResourceError("generation ran out of memory", hint="lower generation.batch_size") from error
        return [self._until_stop(row) for row in sequences[:, width:].tolist()]

    def _until_stop(self, token_ids: list[int]) -> tuple[int, ...]:
        ends = (place for place, token in enumerate(token_ids) if token in self.stop_ids)
        return tuple(token_ids[: next(ends, len(token_ids)) + 1])

    def _response(self, token_ids: tuple[int, ...], seed: int) -> Response:
        stopped = token_ids[-1] in self.stop_ids
        text_ids = token_ids[:-1] if stopped else token_ids
        text = self.tokenizer.decode(list(text_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Response(text=str(text), token_ids=token_ids, finish_reason="stop" if stopped else "length", seed=seed)


@contextmanager
def _without_sampling_rules(model: Any) -> Iterator[None]:
    """No generation config of the model's own: from it `generate` fills what a call leaves open, such as top_k."""
    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own
