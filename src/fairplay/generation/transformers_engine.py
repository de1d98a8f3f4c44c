"""Responses by transformers' own `generate`: batches sorted by length, KV cache, K samples of a prompt in one pass.

Everything in `generate` that shapes the distribution is off, whatever the checkpoint asks for; tokens are drawn by
`sampling.py`. Left out: loading (`models/`), where seeds come from (the caller), files. Floor 4.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from fairplay.errors import DataError, ResourceError
from fairplay.generation.contract import Generated
from fairplay.generation.room import check_rows
from fairplay.generation.sampling import TokenSampler
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.shared_reading import prompts_read_once
from fairplay.generation.transcriber import Transcriber
from fairplay.models.adapters import scoring_mode
from fairplay.models.free_memory import free_bytes
from fairplay.models.loading import Policy, configure_threads
from fairplay.records import Prompt, Response, ResponseGroup


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
        self.model = cast(Any, policy.model)
        self.transcriber = Transcriber(policy, settings)
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses; see `contract.Engine.respond`.

        Raises:
            ResourceError: If memory can't be enough, or ran out.
        """
        if len(prompts) != len(seeds):
            raise DataError(f"{len(prompts)} prompts came with {len(seeds)} lists of seeds")
        if self.model.device.type == "cpu":
            configure_threads(self.num_parameters)
        prompt_ids, dropped = self.transcriber.encode(prompts)
        check_rows(self.model, [len(ids) for ids in prompt_ids.values()], self.settings, free_bytes(self.model.device))
        responses: dict[int, list[Response]] = {index: [] for index in prompt_ids}
        for rows in self._batches(prompt_ids, seeds):
            generated = self._generate([prompt_ids[index] for index, _ in rows], [seed for _, seed in rows])
            for (index, seed), (token_ids, logps) in zip(rows, generated, strict=True):
                responses[index].append(self.transcriber.response(token_ids, logps, seed))
        groups = tuple(ResponseGroup(prompts[index], tuple(responses[index]), ids) for index, ids in prompt_ids.items())
        return Generated(groups, tuple(dropped))

    def close(self) -> None:
        """Nothing is held but the policy, which goes with the engine."""

    def _batches(
        self, prompt_ids: dict[int, tuple[int, ...]], seeds: Sequence[Sequence[int]]
    ) -> Iterator[list[tuple[int, int]]]:
        """(prompt index, seed) of the rows of each batch, prompts of like length together, a prompt's rows in order."""
        ordered = sorted(prompt_ids, key=lambda index: (len(prompt_ids[index]), index))
        rows = [(index, seed) for index in ordered for seed in seeds[index]]
        for start in range(0, len(rows), self.settings.batch_size):
            yield rows[start : start + self.settings.batch_size]

    def _generate(self, prompts: list[tuple[int, ...]], seeds: list[int]) -> list[tuple[tuple[int, ...], list[float]]]:
        """Sampled ids of each row, its stop token included where it has one, and their log-probs."""
        settings, device = self.settings, self.model.device
        width = max(map(len, prompts))
        pad = self.transcriber.stop_ids[0]
        input_ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        attention_mask = (torch.arange(width, device=device) >= (width - lengths)[:, None]).long()
        sampler = TokenSampler(
            seeds, settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, device=device
        )
        greedy = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(self.transcriber.stop_ids),
            pad_token_id=pad,
            use_cache=True,
        )
        try:
            with scoring_mode(self.model), _without_sampling_rules(self.model), prompts_read_once(self.model, prompts):
                sequences: Tensor = self.model.generate(
                    input_ids,
                    attention_mask=attention_mask,
                    generation_config=greedy,
                    logits_processor=LogitsProcessorList([sampler]),
                )
        except torch.OutOfMemoryError as error:
            raise ResourceError("generation ran out of memory", hint="lower generation.batch_size") from error
        found = [self.transcriber.until_stop(row) for row in sequences[:, width:].tolist()]
        return [(ids, row[: len(ids)]) for ids, row in zip(found, sampler.logps().tolist(), strict=True)]


@contextmanager
def _without_sampling_rules(model: Any) -> Iterator[None]:
    """No generation config of the model's own: from it `generate` fills what a call leaves open, such as top_k."""
    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own
