"""A general preference model as an oracle: K forward passes a prompt, any preference among K, circles included.

Each response becomes a unit vector v of 2k numbers; the score of i against j is <R v_i, v_j>, R a quarter turn of each
of the k planes, weighted by the prompt where the model has a head for that. So scores are antisymmetric by
construction, and equal texts tie. Left out: the folder (`embedding_folder.py`). Floor 4.

Source: Zhang et al. 2024, arXiv:2410.02197; general-preference/general-preference-model, gpm_example_usage.py.
"""

import re
from collections.abc import Sequence
from typing import Any, Self

import torch
from jinja2.exceptions import TemplateError
from torch import Tensor
from torch.nn.functional import normalize

from fairplay.errors import DataError, ResourceError
from fairplay.models.loading import configure_threads, resolve_device
from fairplay.models.settings import ModelSettings
from fairplay.oracles.batching import length_batches, pad_right, token_budget
from fairplay.oracles.embedding_folder import EmbeddingFolder, read_embedding_folder
from fairplay.oracles.kinds.general_preference import GeneralPreferenceSettings
from fairplay.oracles.reward_model import ScoredRow, fit
from fairplay.oracles.source import Source
from fairplay.preferences.win_matrix import group_logits
from fairplay.progress import progress
from fairplay.records import PreferenceGroup, Prompt, ResponseGroup


class GeneralPreferenceOracle:
    """Prefers by embeddings.

    Args:
        found: The model, its body on its device.
        name: Kind and identity.
        temperature: The model's own, times the one set by the user.
        max_length: Tokens read of prompt and response together.
        max_tokens: Tokens of one forward pass, padding included.
    """

    def __init__(
        self, found: EmbeddingFolder, *, name: str, temperature: float, max_length: int, max_tokens: int
    ) -> None:
        self.found, self.name, self.temperature = found, name, temperature
        self.max_length, self.max_tokens = max_length, max_tokens
        controls = sorted(found.tokenizer.all_special_tokens, key=lambda token: (-len(token), token))
        self._controls = re.compile("|".join(map(re.escape, controls)))

    @classmethod
    def load(cls, settings: GeneralPreferenceSettings) -> Self:
        """The model that the settings name, from a folder or the hub, on cuda if there is one.

        Raises:
            DataError: If it is no general preference model.
            ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
            ResourceError: If memory ran out.
        """
        found = read_embedding_folder(Source(settings.model, settings.source.commit()), dtype=settings.dtype)
        configure_threads(sum(parameter.numel() for parameter in found.body.parameters()))
        device = resolve_device(ModelSettings())
        try:
            found.body.to(device)
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"{settings.model}: does not fit in memory", hint="set `dtype: bfloat16`") from error
        return cls(
            found,
            name=settings.full_name(),
            temperature=found.temperature * settings.temperature,
            max_length=settings.max_length,
            max_tokens=token_budget(settings.batch_size, settings.max_length, device),
        )

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`."""
        rows: list[ScoredRow] = []
        places: list[dict[str, int]] = []
        for group in groups:
            places.append({})
            for text in dict.fromkeys(response.text for response in group.responses):
                places[-1][text] = len(rows)
                rows.append(self._row(group.prompt, text))
        vectors, planes = self._embed(rows)
        return [
            self._judged(group, [of_text[response.text] for response in group.responses], rows, vectors, planes)
            for group, of_text in zip(groups, places, strict=True)
        ]

    def _row(self, prompt: Prompt, text: str) -> ScoredRow:
        """The conversation as published code reads it: rendered, tokenised, its last token replaced by EOS."""
        tokenizer: Any = self.found.tokenizer
        chat = [{"role": message.role, "content": self._escaped(message.content)} for message in prompt.messages]
        whole = [*chat, {"role": "assistant", "content": self._escaped(text)}]
        try:
            alone, both = (
                tokenizer(tokenizer.apply_chat_template(one, tokenize=False), verbose=False)["input_ids"]
                for one in (chat, whole)
            )
        except TemplateError as error:
            raise DataError(f"prompt {prompt.id}: the chat template refuses the messages: {error}") from error
        both[-1] = tokenizer.eos_token_id
        start = min(len(alone), len(both) - 1)
        return fit(tuple(both[:start]), tuple(both[start:]), max_length=self.max_length)

    def _escaped(self, text: str) -> str:
        """Control tokens written in a text broken up by a space, so that they are read as text."""
        return self._controls.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _embed(self, rows: Sequence[ScoredRow]) -> tuple[Tensor, Tensor]:
        """Unit vectors, [rows, 2k], and how much each plane counts, [rows, k]."""
        body, device = self.found.body, self.found.body.device
        value = self.found.value_head.to(device)
        prompt = None if self.found.prompt_head is None else self.found.prompt_head.to(device)
        vectors = torch.zeros(len(rows), len(value))
        planes = torch.ones(len(rows), len(value) // 2)
        with progress("embedding responses", len(rows)) as counter:
            for batch in length_batches([len(row.ids) for row in rows], max_tokens=self.max_tokens):
                chosen = [rows[index] for index in batch]
                ids, mask = pad_right([row.ids for row in chosen], pad_id=0, device=device)
                states = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.float()
                at = torch.arange(len(chosen), device=device)
                vectors[batch] = normalize(states[at, mask.sum(1) - 1] @ value.T, dim=-1).cpu()
                if prompt is not None:
                    ends = torch.tensor([max(row.num_prompt_tokens - 1, 0) for row in chosen], device=device)
                    planes[batch] = (states[at, ends] @ prompt.T).softmax(dim=-1).cpu()
                counter.advance(len(batch))
        return vectors, planes

    def _judged(
        self, group: ResponseGroup, chosen: Sequence[int], rows: Sequence[ScoredRow], vectors: Tensor, planes: Tensor
    ) -> PreferenceGroup:
        logits = preference_scores(vectors[list(chosen)], planes[chosen[0]] if chosen else planes.new_zeros(0))
        judged = PreferenceGroup(group, tuple(map(tuple, logits.tolist())), tuple(rows[index].cut for index in chosen))
        group_logits(judged)
        return judged


def preference_scores(vectors: Tensor, planes: Tensor) -> Tensor:
    """Scores of each response against each, s_ij = <R v_i, v_j>.

    Args:
        vectors: Embeddings, [K, 2k].
        planes: What each plane counts, [k].

    Returns:
        [K, K], float64, antisymmetric to the last bit, in [-1, 1] for unit vectors where no plane counts more than 1.

    Source: arXiv:2410.02197 (R = diag of blocks [[0, -1], [1, 0]]).
    """
    even, odd = vectors[:, 0::2].double(), vectors[:, 1::2].double()
    products = (even * planes.double()) @ odd.T
    return products - products.T
