"""The oracles that can be trained, each as rows in and logits out: one that scores, and those that compare.

Left out: where they start from (`oracle_starts.py`), the steps (`oracle_learner.py`). Floor 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from fairplay.models.saving import forget_paths
from fairplay.oracles.facts import OracleFacts, write_facts
from fairplay.oracles.pair_encoding import EncodedTexts, PairRow
from fairplay.oracles.pair_queue import PairReader
from fairplay.oracles.reward_model import RewardModelOracle
from fairplay.records import Prompt, TrainingExample
from fairplay.storage.atomic import folder_atomic
from fairplay.training.oracle_pairs import EncodedPair


@dataclass(frozen=True)
class TrainableRewardModel:
    """A sequence classifier with one logit; the pair's logit is the difference of two rewards (Bradley-Terry).

    Attributes:
        oracle: The reward model as it will be asked.
    """

    oracle: RewardModelOracle
    kind = "reward_model"
    compares = False

    @property
    def model(self) -> Module:
        model: Module = self.oracle.model
        return model

    @property
    def backbone(self) -> Any:
        return self.oracle.model

    def encode(self, pairs: Sequence[TrainingExample]) -> list[EncodedPair]:
        encoded = []
        for pair in pairs:
            chosen, rejected = (self.oracle.row(pair.prompt, response.text) for response in pair.responses)
            encoded.append(
                EncodedPair(
                    id=pair.id,
                    prompt_id=pair.prompt.id,
                    rows=(chosen, rejected),
                    ids=(chosen.ids, rejected.ids),
                    lengths=(chosen.num_response_tokens, rejected.num_response_tokens),
                    truncated=chosen.cut or rejected.cut,
                )
            )
        return encoded

    def logits(self, pairs: Sequence[EncodedPair], chosen_first: Sequence[bool]) -> Tensor:
        rewards = self.oracle.rewards([row for pair in pairs for row in pair.rows]).reshape(-1, 2)
        return rewards[:, 0] - rewards[:, 1]

    def save(self, output: Path, *, temperature: float) -> None:
        with folder_atomic(output) as unfinished:
            self.oracle.model.save_pretrained(unfinished)
            self.oracle.tokenizer.save_pretrained(unfinished)
            forget_paths(unfinished)
            write_facts(unfinished, OracleFacts(temperature, max_length=self.oracle.max_length))


@dataclass(frozen=True)
class TrainablePairReader:
    """A model that reads both responses at once: a pair model, a pair ranker, or a pair-preference language model.

    Attributes:
        kind: The oracle's kind.
        model: Holds the weights.
        backbone: The transformers model in it.
        reader: Makes the rows.
        logits_of: From rows to the logits that their first response beats their second.
        write: (folder, temperature) -> files in it.
    """

    kind: str
    model: Module
    backbone: Any
    reader: PairReader[Any, Any]
    logits_of: Callable[[Sequence[Any]], Tensor]
    write: Callable[[Path, float], None]
    compares = True

    def encode(self, pairs: Sequence[TrainingExample]) -> list[EncodedPair]:
        texts: dict[Prompt, dict[str, int]] = {}
        for pair in pairs:
            known = texts.setdefault(pair.prompt, {})
            for response in pair.responses:
                known.setdefault(response.text, len(known))
        encoded = {prompt: self.reader.encode(prompt, tuple(known)) for prompt, known in texts.items()}
        return [
            self._pair(pair, encoded[pair.prompt], *(texts[pair.prompt][r.text] for r in pair.responses))
            for pair in pairs
        ]

    def _pair(self, pair: TrainingExample, encoded: EncodedTexts, chosen: int, rejected: int) -> EncodedPair:
        rows = (self.reader.row(encoded, chosen, rejected), self.reader.row(encoded, rejected, chosen))
        return EncodedPair(
            id=pair.id,
            prompt_id=pair.prompt.id,
            rows=rows,
            ids=(row_ids(rows[0]), row_ids(rows[1])),
            lengths=(len(encoded.text_ids[chosen]), len(encoded.text_ids[rejected])),
            truncated=encoded.truncated[chosen] or encoded.truncated[rejected],
        )

    def logits(self, pairs: Sequence[EncodedPair], chosen_first: Sequence[bool]) -> Tensor:
        rows = [pair.rows[0 if first else 1] for pair, first in zip(pairs, chosen_first, strict=True)]
        logits = self.logits_of(rows)
        return torch.where(torch.tensor(chosen_first, device=logits.device), logits, -logits)

    def save(self, output: Path, *, temperature: float) -> None:
        with folder_atomic(output) as unfinished:
            self.write(unfinished, temperature)
            forget_paths(unfinished)


def row_ids(row: PairRow | tuple[int, ...]) -> tuple[int, ...]:
    """Token ids of what a pair reader makes."""
    return row if isinstance(row, tuple) else row.ids
