"""How the models of a training read rows: in which precision and layout, whole or sharded.

Left out: log-probs that are kept (`reference.py`), gradients (`stepping.py`). Floor 5.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from fairplay.models.body import causal_model
from fairplay.models.layouts import Row
from fairplay.models.probe import choose_layout
from fairplay.models.token_logps import RowScores
from fairplay.training.distributed import score

# Tokens whose logits are held at a time where the batch has too many: enough to fill a GPU's matrix units.
TILE = 1024


class Reading:
    """Scores rows with any of a training's models, each in the best layout that it can take.

    Args:
        longest: Tokens of the longest row that will be read, prompt included.
        bf16: Compute in bfloat16 by autocast.
    """

    def __init__(self, *, longest: int, bf16: bool) -> None:
        self.longest = longest
        self.bf16 = bf16
        self._layouts: dict[str, str] = {}
        self._of_models: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()

    def layout(self, model: PreTrainedModel) -> str:
        """The layout of this model's rows, tried once for all models that are built alike.

        Sharded models can't be tried: ask before they are.

        Raises:
            DataError: If the model scores rows wrongly in every layout.
        """
        if model not in self._of_models:  # to look at the config takes longer than to lay out a small batch
            self._of_models[model] = self._tried(model)
        return self._of_models[model]

    def _tried(self, model: PreTrainedModel) -> str:
        config = causal_model(model).config.to_dict()
        built = json.dumps({name: value for name, value in config.items() if name != "_name_or_path"}, default=str)
        if built not in self._layouts:
            with autocast(model, bf16=self.bf16):
                self._layouts[built] = choose_layout(model, longest=self.longest, trains=True).layout
        return self._layouts[built]

    def score(
        self,
        model: PreTrainedModel,
        rows: Sequence[Row],
        *,
        prompt_tokens: bool = False,
        statistics: frozenset[str] = frozenset(),
        reference: PreTrainedModel | None = None,
    ) -> RowScores:
        """`models.token_logps.score_rows` as this training reads; where the model is sharded, on all ranks at once."""
        with autocast(model, bf16=self.bf16):
            return score(
                model,
                rows,
                tile=TILE,
                layout=self.layout(model),
                reference_layout="padded" if reference is None else self.layout(reference),
                prompt_tokens=prompt_tokens,
                statistics=statistics,
                reference=reference,
            )


def autocast(model: PreTrainedModel, *, bf16: bool) -> AbstractContextManager[object]:
    """bfloat16 by autocast on the model's device, or nothing."""
    if not bf16:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)
