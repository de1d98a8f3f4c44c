"""A pair-preference language model as an oracle: the logit of answering A less that of answering B.

The question is read once and the two answers after it, by the log-probs that policies are scored with: what the two
share cancels. Left out: the question (`lm_encoding.py`), the queue of pairs (`pair_queue.py`). Floor 4.

Source: Dong et al. 2024, arXiv:2405.07863 (RLHFlow).
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from fairplay.models.loading import Policy, load_policy
from fairplay.models.probe import choose_layout
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from fairplay.oracles.batching import token_budget
from fairplay.oracles.facts import read_facts
from fairplay.oracles.kinds.pair_lm import PairLmSettings
from fairplay.oracles.lm_encoding import QuestionEncoder
from fairplay.oracles.pair_queue import judge_pairs
from fairplay.oracles.source import Source
from fairplay.records import PreferenceGroup, ResponseGroup

_TILE = 256  # answers whose logits are held at a time


class PairLmOracle:
    """A language model that says which of two responses is better.

    Args:
        policy: Model, in evaluation mode, and tokenizer.
        encoder: Asks the questions.
        name: Kind and identity.
        temperature: Kept with the weights, times the one set by the user.
        max_tokens: Tokens of one forward pass.
        orders: In which orders a pair is shown, a name in `kinds.base.ORDERS`.
        num_anchors: Responses of a prompt with which all others are compared; 0 compares all pairs.
    """

    def __init__(
        self,
        policy: Policy,
        encoder: QuestionEncoder,
        *,
        name: str,
        temperature: float,
        max_tokens: int,
        orders: str = "both",
        num_anchors: int = 0,
    ) -> None:
        self.model, self.encoder, self.name, self.temperature = policy.model, encoder, name, temperature
        self.max_tokens, self.orders, self.num_anchors = max_tokens, orders, num_anchors
        self.layout = choose_layout(self.model, longest=encoder.max_length, trains=False).layout

    @classmethod
    def load(cls, settings: PairLmSettings) -> Self:
        """The model that the settings name, from a folder or the hub, on cuda if there is one.

        Raises:
            DataError: If there is no such model, or its tokenizer can't ask the question.
            ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
            ResourceError: If memory ran out.
        """
        commit = settings.source.commit()
        policy = load_policy(settings.model, ModelSettings(dtype=settings.dtype, revision=commit))
        facts = read_facts(Source(settings.model, commit))
        longest = min(settings.max_length, facts.max_length or settings.max_length)
        return cls(
            policy,
            QuestionEncoder(policy.tokenizer, max_length=longest),
            name=settings.full_name(),
            temperature=facts.temperature * settings.temperature,
            max_tokens=token_budget(settings.batch_size, longest, policy.model.device),
            orders=settings.orders,
            num_anchors=settings.num_anchors,
        )

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge the ordered pairs of each group; see `PreferenceOracle`."""
        return judge_pairs(
            groups,
            self.encoder,
            self._logits,
            max_tokens=self.max_tokens,
            orders=self.orders,
            num_anchors=self.num_anchors,
        )

    def _logits(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Log-odds of A against B after each question, [rows]."""
        answers = [(row, (label,)) for row in rows for label in self.encoder.label_ids]
        logps = score_rows(self.model, answers, tile=_TILE, layout=self.layout).logps.view(-1, 2)
        return logps[:, 0] - logps[:, 1]
