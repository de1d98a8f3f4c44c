"""Asking a pair model about whole groups: every ordered pair, in batches of like length, equal texts judged once.

Left out: the model itself (`pair_model.py`). Floor 4.
"""

import hashlib
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from fairplay.models.loading import configure_threads
from fairplay.oracles.batching import length_batches, token_budget
from fairplay.oracles.pair_encoding import EncodedTexts
from fairplay.oracles.pair_model import FACTS_FILE, HEAD_FILE, PairModel
from fairplay.oracles.settings import OracleSettings
from fairplay.preferences.win_matrix import group_logits
from fairplay.progress import progress
from fairplay.records import PreferenceGroup, ResponseGroup


class PairModelOracle:
    """A learned pair model as an oracle.

    Args:
        model: The model, on its device.
        name: Kind and identity.
        temperature: The model's fitted temperature, times the one set by the user.
        max_length: Tokens of a row; the model's own limit holds too.
        max_tokens: Tokens of one forward pass, padding included.
    """

    def __init__(self, model: PairModel, *, name: str, temperature: float, max_length: int, max_tokens: int) -> None:
        self.model, self.name, self.temperature, self.max_tokens = model.eval(), name, temperature, max_tokens
        self.encoder = model.encoder(max_length)

    @classmethod
    def load(cls, settings: OracleSettings) -> Self:
        """The oracle in the folder that the settings name.

        Raises:
            SettingsError: If there is no such folder.
            DataError: If the folder holds no pair model.
        """
        folder = Path(settings.model)
        model = PairModel.load(folder, dtype=settings.dtype)
        configure_threads(sum(parameter.numel() for parameter in model.parameters()))
        return cls(
            model,
            name=f"pair_model:{folder.name}@{_identity(folder)}",
            temperature=model.facts.temperature * settings.temperature,
            max_length=settings.max_length,
            max_tokens=token_budget(settings, model.body.device),
        )

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`.

        Equal texts have a logit of 0 between them and equal logits against others, without a forward pass of their own.
        """
        different = [tuple(dict.fromkeys(response.text for response in group.responses)) for group in groups]
        encoded = [self.encoder.encode(group.prompt, texts) for group, texts in zip(groups, different, strict=True)]
        tables = self._tables(encoded)
        judged = []
        for group, texts, codes, table in zip(groups, different, encoded, tables, strict=True):
            index_of = {text: index for index, text in enumerate(texts)}
            chosen = [index_of[response.text] for response in group.responses]
            flags = tuple(codes.truncated[index] for index in chosen)
            logits = tuple(tuple(row) for row in table[np.ix_(chosen, chosen)].tolist())
            judged.append(PreferenceGroup(group, logits, flags))
            group_logits(judged[-1])
        return judged

    def _tables(self, encoded: Sequence[EncodedTexts]) -> list[NDArray[np.float64]]:
        """Pair logits among the different texts of each prompt, [texts, texts] each, 0 on the diagonal."""
        tables = [np.zeros((len(codes.text_ids),) * 2) for codes in encoded]
        pairs = [
            (number, first, second)
            for number, codes in enumerate(encoded)
            for first, second in permutations(range(len(codes.text_ids)), 2)
        ]
        lengths = [self.encoder.row_length(encoded[number], first, second) for number, first, second in pairs]
        with progress("ranking pairs", len(pairs)) as counter:
            for batch in length_batches(lengths, max_tokens=self.max_tokens):
                places = [pairs[index] for index in batch]
                rows = [self.encoder.row(encoded[number], first, second) for number, first, second in places]
                for (number, first, second), logit in zip(places, self.model(rows).tolist(), strict=True):
                    tables[number][first, second] = logit
                counter.advance(len(batch))
        return tables


def _identity(folder: Path) -> str:
    """Twelve hex digits that differ between models: a hash of head and facts, which no two trainings share."""
    digest = hashlib.sha256()
    for name in (HEAD_FILE, FACTS_FILE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]
