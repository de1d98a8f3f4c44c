"""PairRM, maintained: a DeBERTa reads prompt and both responses; one head gives each response a score beside the other.

The pair logit is the first response's score less the second's: the log-odds that the first wins, as it was trained.
Left out: what is read (`ranker_encoding.py`), the folder (`ranker_folder.py`), the queue of pairs (`pair_queue.py`),
training. Floor 4.

Source: Jiang et al. 2023, arXiv:2306.02561; yuchenlin/LLM-Blender, ranker.py (`CrossCompareReranker`), pairrm.py.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DebertaV2Model

from fairplay.errors import DataError, ResourceError
from fairplay.models.loading import configure_threads, resolve_device
from fairplay.models.settings import ModelSettings
from fairplay.oracles.batching import CPU_TOKENS, pad_right
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.packed_deberta import can_pack, packed_states
from fairplay.oracles.pair_encoding import PairRow
from fairplay.oracles.pair_oracle import PairOracle
from fairplay.oracles.ranker_encoding import RankerEncoder, RowLengths
from fairplay.oracles.ranker_folder import RankerFolder, read_ranker

_BACKBONE, _HEAD = "pretrained_model.", "head_layer."


class PairRanker(nn.Module):
    """The logit that the first of two responses beats the second.

    Args:
        backbone: A `DebertaV2Model`.
        num_tasks: Outputs of the head; their mean counts.
        pad_id: What fills short rows.
    """

    def __init__(self, backbone: Any, *, num_tasks: int, pad_id: int) -> None:
        super().__init__()
        width = int(backbone.config.hidden_size)
        self.backbone, self.pad_id = backbone, pad_id
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, num_tasks))

    def forward(self, rows: Sequence[PairRow]) -> Tensor:
        """Logits that each row's first response beats its second, [rows], float32.

        Rows are not padded where the backbone can go without, else on the right and masked: a logit does not depend on
        the other rows.
        """
        source, first, second = self._states_at_marks(rows).unbind(1)
        scores = [self.head(torch.cat((source, response), dim=-1)) for response in (first, second)]
        logits: Tensor = (scores[0] - scores[1]).mean(dim=-1)
        return logits

    def _states_at_marks(self, rows: Sequence[PairRow]) -> Tensor:
        """The last hidden states at the three marks of each row, [rows, 3, width], float32."""
        device = self.backbone.device
        ids = [row.ids for row in rows]
        if can_pack(self.backbone.config) and not self.training:  # packed rows have no dropout
            states = packed_states(self.backbone, ids)
            starts = list(accumulate(map(len, ids[:-1]), initial=0))
        else:
            padded, mask = pad_right(ids, pad_id=self.pad_id, device=device)
            states = self.backbone(input_ids=padded, attention_mask=mask).last_hidden_state
            starts = [number * states.shape[1] for number in range(len(rows))]
            states = states.flatten(0, 1)
        marks = [
            (start + 1, start + row.first[0] + 1, start + row.second[0] + 1)
            for start, row in zip(starts, rows, strict=True)
        ]
        return states[torch.tensor(marks, device=device)].float()


def load_pair_ranker(settings: PairRankerSettings) -> PreferenceOracle:
    """The oracle that the settings name, from a folder or the hub, on cuda if there is one.

    Two equal responses are read too: their logit is what the order alone is worth.

    Raises:
        DataError: If it is no pair ranker, or a part of it can't be used.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
        ResourceError: If memory ran out.
    """
    found = read_ranker(settings.model, revision=settings.source.commit())
    lengths = RowLengths(
        prompt=settings.prompt_max_length or found.prompt_max_length,
        response=settings.response_max_length or found.response_max_length,
        side=settings.truncation_side or found.tokenizer.truncation_side,
    )
    model = build_ranker(found, settings.model, dtype=settings.dtype)
    configure_threads(sum(parameter.numel() for parameter in model.parameters()))
    device = resolve_device(ModelSettings())
    try:
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{settings.model}: does not fit in memory", hint="set `dtype: float16`") from error
    asked = settings.batch_size * lengths.row
    return PairOracle(
        RankerEncoder(found.tokenizer, lengths),
        model.eval(),
        settings,
        name=settings.full_name(),
        temperature=found.temperature,
        max_tokens=min(asked, CPU_TOKENS) if device.type == "cpu" else asked,
        read_equal_texts=True,
    )


def build_ranker(found: RankerFolder, source: str, *, dtype: str = "float32") -> PairRanker:
    """The ranker with its weights, ready to judge; the backbone of the type asked for, the head in float32.

    Raises:
        DataError: If a weight is missing, is one too many, or has the wrong shape.
    """
    backbone_weights = {
        name.removeprefix(_BACKBONE): value for name, value in found.weights.items() if name.startswith(_BACKBONE)
    }
    head_weights = {
        # LLM-Blender's head has a dropout before each of its two layers
        {"1": "0", "4": "2"}.get(place, place) + "." + kind: value.float()
        for name, value in found.weights.items()
        if name.startswith(_HEAD)
        for place, _, kind in [name.removeprefix(_HEAD).partition(".")]
    }
    others = sorted(name for name in found.weights if not name.startswith((_BACKBONE, _HEAD)))
    if others:
        raise DataError(f"{source}: weights of no pair ranker: {', '.join(others[:3])}")
    try:
        with torch.device("meta"):
            model = PairRanker(
                DebertaV2Model(found.config), num_tasks=found.num_tasks, pad_id=found.tokenizer.pad_token_id
            )
        model.backbone.load_state_dict(backbone_weights, assign=True)
        model.head.load_state_dict(head_weights, assign=True)
    except RuntimeError as error:
        raise DataError(f"{source}: the weights don't fit the model: {' '.join(str(error).split())[:200]}") from error
    embeddings = model.backbone.embeddings
    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[1]).unsqueeze(0)  # not among the weights
    model.backbone.to(getattr(torch, dtype))
    return model.eval()
