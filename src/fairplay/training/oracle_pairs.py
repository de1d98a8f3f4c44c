"""Labelled pairs as oracles learn from them: two texts of one prompt, the better one first, and how they are read.

Left out: who reads them (`oracle_readers.py`), which of them are held out (the caller says). Floor 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Module

from fairplay.errors import DataError
from fairplay.records import Dropped, Message, TrainingExample
from fairplay.seeds import stable_seed

EQUAL_TEXTS, EQUAL_SCORES = "chosen and rejected are equal", "equal scores"


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A labelled pair as token ids.

    Attributes:
        id: Of the pair.
        prompt_id: Of its prompt.
        rows: What is read: of an oracle that scores, prompt with chosen and prompt with rejected; of one that compares,
            the pair with the chosen one first and with the rejected one first.
        ids: Token ids of these two rows.
        lengths: Tokens of the chosen and of the rejected response, as far as they are read.
        truncated: Whether only a part is read.
    """

    id: str
    prompt_id: str
    rows: tuple[Any, Any]
    ids: tuple[tuple[int, ...], tuple[int, ...]]
    lengths: tuple[int, int]
    truncated: bool

    @property
    def longest_row(self) -> int:
        """Tokens of the longer row."""
        return max(map(len, self.ids))


class TrainableOracle(Protocol):
    """An oracle that learns: rows in, logits out.

    Attributes:
        kind: The oracle's kind, a name in `oracles.settings.KINDS`.
        compares: Whether both responses are read together, so that it matters which is shown first.
    """

    @property
    def kind(self) -> str: ...

    @property
    def compares(self) -> bool: ...

    @property
    def model(self) -> Module: ...

    @property
    def backbone(self) -> Any:
        """The transformers model in it."""
        ...

    def encode(self, pairs: Sequence[TrainingExample]) -> list[EncodedPair]:
        """Token ids of pairs of which response 0 is the chosen one, too long input cut for each alone.

        Raises:
            DataError: If the chat template refuses a prompt; the message names it.
        """
        ...

    def logits(self, pairs: Sequence[EncodedPair], chosen_first: Sequence[bool]) -> Tensor:
        """Logit that the chosen response beats the rejected one, [pairs], float32, where it can be with gradients.

        Args:
            pairs: The pairs.
            chosen_first: Whether the chosen one is shown first, [pairs]; without effect unless it compares.
        """
        ...

    def save(self, output: Path, *, temperature: float) -> None:
        """Write a folder that loads as an oracle of this kind, whole or not at all."""
        ...


def different_pairs(examples: Sequence[TrainingExample]) -> tuple[list[TrainingExample], tuple[Dropped, ...]]:
    """One example a pair, the chosen response first; pairs of equal texts, and of equal scores, are dropped.

    Where an example has no pairs, its scores or win rates make them: the higher one is chosen.

    Raises:
        DataError: If an example has neither; the message names it.
    """
    kept, dropped = [], []
    for example in examples:
        numbers = example.scores or example.win_rates
        if not example.pairs and (not numbers or len(numbers) < 2):
            raise DataError(
                f"example {example.id}: it has no pair, and no two responses with scores",
                hint="an oracle learns from labelled pairs, such as `prompt`, `chosen`, `rejected`",
            )
        pairs = example.pairs or tuple(combinations(range(len(numbers)), 2))
        for number, (one, other) in enumerate(pairs):
            pair_id = f"{example.id}#{number}" if len(pairs) > 1 else example.id
            is_tie = not example.pairs and numbers[one] == numbers[other]
            is_turned = not example.pairs and numbers[one] < numbers[other]
            responses = tuple(example.responses[index] for index in ((other, one) if is_turned else (one, other)))
            if is_tie or responses[0].text == responses[1].text:
                dropped.append(Dropped(pair_id, EQUAL_SCORES if is_tie else EQUAL_TEXTS))
            else:
                kept.append(TrainingExample(pair_id, example.prompt, responses, pairs=((0, 1),)))
    return kept, tuple(dropped)


def split_pairs(
    pairs: Sequence[TrainingExample], *, num_calibration: int, num_held_out: int, seed: int
) -> tuple[list[TrainingExample], list[TrainingExample], list[TrainingExample]]:
    """Pairs to learn from, for calibration, and held out; no prompt's text is in two of them.

    Whole prompts are drawn by the seed until there are enough pairs, first of those held out, then for calibration; the
    last prompt may bring more than were asked for.

    Args:
        pairs: One example a pair.
        num_calibration, num_held_out: Pairs to keep apart.
        seed: Decides which prompts.

    Raises:
        DataError: If fewer pairs would be left to learn from than are kept apart.
    """
    by_prompt: dict[tuple[Message, ...], list[TrainingExample]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt.messages, []).append(pair)
    drawn = sorted(by_prompt, key=lambda messages: stable_seed(seed, "kept apart", repr(messages)))
    held_out: list[TrainingExample] = []
    calibration: list[TrainingExample] = []
    while drawn and len(held_out) < num_held_out:
        held_out += by_prompt.pop(drawn.pop())
    while drawn and len(calibration) < num_calibration:
        calibration += by_prompt.pop(drawn.pop())
    apart = len(held_out) + len(calibration)
    learnt = [pair for pair in pairs if pair.prompt.messages in by_prompt]
    if len(learnt) < apart:
        raise DataError(
            f"{len(pairs)} labelled pairs are too few: {num_held_out} are held out to measure the oracle on, "
            f"{num_calibration} fit its temperature, and as many again are to learn from, all by whole prompts; "
            f"that takes {2 * (num_held_out + num_calibration)} pairs or more ({len(learnt)} are left to learn from)",
            hint="bring more pairs, or keep fewer apart: num_held_out, num_calibration",
        )
    return learnt, calibration, held_out
