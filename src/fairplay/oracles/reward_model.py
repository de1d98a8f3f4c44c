"""The reward-model oracle: a Hugging Face sequence classifier reads prompt and response, and gives it a score.

Several labels (objectives) are summed with weights. Left out: loading (`reward_loading.py`). Floor 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fairplay.errors import DataError
from fairplay.models.chat import ChatEncoder, ChatRefused
from fairplay.oracles.armo import ArmoRewardModel
from fairplay.oracles.batching import length_batches, pad_right, token_budget
from fairplay.oracles.contract import scores_to_group
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.reward_loading import RewardClassifier, load_classifier
from fairplay.progress import progress
from fairplay.records import PreferenceGroup, Prompt, ResponseGroup


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """What is read for one reward: prompt and response as token ids, and whether one of them was cut."""

    ids: tuple[int, ...]
    num_prompt_tokens: int
    cut: bool

    @property
    def num_response_tokens(self) -> int:
        return len(self.ids) - self.num_prompt_tokens


class RewardModelOracle:
    """Prefers the response with the higher reward; L_ij = r_i - r_j, equal texts are read once.

    A tokenizer with a chat template renders the whole conversation; without one, the prompt's text and the response
    are tokenised as a pair, as such classifiers are trained.

    Args:
        found: Classifier and tokenizer.
        name: Kind and identity.
        temperature: Points of reward that make odds of e to 1.
        max_length: Tokens read of prompt and response together.
        max_tokens: Tokens of one forward pass, padding included.
    """

    def __init__(
        self, found: RewardClassifier, *, name: str, temperature: float, max_length: int, max_tokens: int
    ) -> None:
        model, tokenizer = found.model, found.tokenizer
        if model.config.pad_token_id is None:  # decoder classifiers look for the last token that is no padding
            pad_id = tokenizer.pad_token_id
            model.config.pad_token_id = tokenizer.eos_token_id if pad_id is None else pad_id
        self.model, self.tokenizer = model.eval(), tokenizer
        self.label_weights = torch.tensor(found.label_weights, device=model.device)
        self.chat = ChatEncoder(tokenizer) if tokenizer.chat_template else None
        self.name, self.temperature = name, temperature
        self.max_length, self.max_tokens = max_length, max_tokens

    @classmethod
    def load(cls, settings: RewardModelSettings) -> Self:
        """The reward model that the settings name, from a folder or the hub.

        Raises:
            DataError: If there is no such folder or repository, or it is no reward model.
            ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
        """
        found = load_classifier(settings)
        return cls(
            found,
            name=settings.full_name(),
            temperature=found.temperature * settings.temperature,
            max_length=min(settings.max_length, found.max_length or settings.max_length),
            max_tokens=token_budget(settings.batch_size, settings.max_length, found.model.device),
        )

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`."""
        rows: list[ScoredRow] = []
        row_of: list[dict[str, int]] = []
        for group in groups:
            row_of.append({})
            for text in dict.fromkeys(response.text for response in group.responses):
                row_of[-1][text] = len(rows)
                rows.append(self.row(group.prompt, text))
        rewards = self._rewards(rows)
        judged = []
        for group, places in zip(groups, row_of, strict=True):
            chosen = [places[response.text] for response in group.responses]
            flags = [rows[index].cut for index in chosen]
            judged.append(scores_to_group(group, [rewards[index] for index in chosen], truncated=flags))
        return judged

    def row(self, prompt: Prompt, text: str) -> ScoredRow:
        """What is read of a prompt and a text that answers it.

        Raises:
            DataError: If the chat template refuses the prompt, or it ends where ArmoRM can't see it; the message names
                it.
        """
        try:
            row = fit(*self._encode(prompt, text), max_length=self.max_length)
        except ChatRefused as error:
            raise DataError(f"prompt {prompt.id}: {error.message}", hint=error.hint) from error
        if isinstance(self.model, ArmoRewardModel):
            try:
                self.model.gate_place(row.ids)
            except DataError as error:
                raise DataError(f"prompt {prompt.id}: {error.message}", hint=error.hint) from error
        return row

    def _encode(self, prompt: Prompt, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.chat is not None:
            return self.chat.response(prompt.messages, text)
        question = "\n\n".join(message.content for message in prompt.messages)
        alone, both = self.tokenizer(question)["input_ids"], self.tokenizer(question, text)["input_ids"]
        different = (i for i, (a, b) in enumerate(zip(alone, both, strict=False)) if a != b)
        start = next(different, min(len(alone), len(both)))
        return tuple(both[:start]), tuple(both[start:])

    def _rewards(self, rows: Sequence[ScoredRow]) -> list[float]:
        rewards = [0.0] * len(rows)
        with progress("scoring responses", len(rows)) as counter:
            for batch in length_batches([len(row.ids) for row in rows], max_tokens=self.max_tokens):
                for index, reward in zip(batch, self.rewards([rows[i] for i in batch]).tolist(), strict=True):
                    rewards[index] = reward
                counter.advance(len(batch))
        return rewards

    def rewards(self, rows: Sequence[ScoredRow]) -> Tensor:
        """Rewards of one batch of rows, [rows], float32; with gradients where they are not switched off."""
        device = self.model.device
        ids, mask = pad_right([row.ids for row in rows], pad_id=int(self.model.config.pad_token_id), device=device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.tokenizer.model_input_names and self.chat is None:
            starts = torch.tensor([row.num_prompt_tokens for row in rows], device=device)
            inputs["token_type_ids"] = (torch.arange(ids.shape[1], device=device) >= starts[:, None]).long() * mask
        rewards: Tensor = self.model(**inputs).logits.float() @ self.label_weights
        return rewards


def fit(prompt_ids: tuple[int, ...], response_ids: tuple[int, ...], *, max_length: int) -> ScoredRow:
    """Prompt and response in at most `max_length` tokens.

    The prompt loses its beginning, down to half of the room; then the response loses its end but keeps its last token,
    where decoders are read.
    """
    over = len(prompt_ids) + len(response_ids) - max_length
    if over <= 0:
        return ScoredRow((*prompt_ids, *response_ids), len(prompt_ids), cut=False)
    kept = max(len(prompt_ids) - over, min(len(prompt_ids), max_length // 2))
    prompt_ids = prompt_ids[len(prompt_ids) - kept :]
    room = max_length - kept
    if len(response_ids) > room:
        response_ids = (*response_ids[: room - 1], response_ids[-1])
    return ScoredRow((*prompt_ids, *response_ids), len(prompt_ids), cut=True)
