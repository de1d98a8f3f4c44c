"""Any reader of pairs as an oracle: who reads, what a row is, and what the queue of pairs must know.

Left out: the readers (`pair_model.py`, `pair_ranker.py`, `pair_lm.py`) and the queue (`pair_queue.py`). Floor 4.
"""

from collections.abc import Callable, Sequence
from typing import Generic

import torch
from torch import Tensor

from fairplay.oracles.kinds.base import PairSettings
from fairplay.oracles.pair_queue import E, PairReader, R, judge_pairs
from fairplay.records import PreferenceGroup, ResponseGroup


class PairOracle(Generic[E, R]):
    """An oracle that reads two responses at once.

    Args:
        encoder: Makes the rows.
        logits_of: Logits that the first response of each row beats its second, [rows].
        settings: Orders and anchors, and the temperature set by the user.
        name: Kind and identity.
        temperature: The one kept with the weights; the user's multiplies it.
        max_tokens: Tokens of one forward pass, padding included.
        read_equal_texts: Whether equal responses are read too, for what the order alone is worth; else they have a
            logit of 0 and cost nothing.
    """

    def __init__(
        self,
        encoder: PairReader[E, R],
        logits_of: Callable[[Sequence[R]], Tensor],
        settings: PairSettings,
        *,
        name: str,
        temperature: float,
        max_tokens: int,
        read_equal_texts: bool = False,
    ) -> None:
        self.encoder, self.logits_of, self.name = encoder, logits_of, name
        self.temperature = temperature * settings.temperature
        self.orders, self.num_anchors = settings.orders, settings.num_anchors
        self.max_tokens, self.read_equal_texts = max_tokens, read_equal_texts

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge the ordered pairs of each group; see `PreferenceOracle`."""
        return judge_pairs(
            groups,
            self.encoder,
            self.logits_of,
            max_tokens=self.max_tokens,
            orders=self.orders,
            num_anchors=self.num_anchors,
            read_equal_texts=self.read_equal_texts,
        )
