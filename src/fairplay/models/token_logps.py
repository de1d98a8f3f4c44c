"""Log-probs of response tokens under a causal language model, flat, with gradients where torch records them.

The model's body reads the rows padded on the right, without an attention mask: a causal model can't look at what comes
after, and positions count from 0, learned ones too. Only the positions that predict a scored token reach the head, and
the head runs in tiles whose logits are computed again in the backward pass: [tokens, vocabulary] is never held whole,
unless it is small. Left out: what the log-probs are for (`objectives/`), caching, packing. Floor 3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fairplay.errors import DataError
from fairplay.lookup import lookup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits that may be held whole and need no second computation: 2**24 float32 are 64 MB.
KEPT_LOGITS = 2**24

Row = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class RowScores:
    """Scores of the tokens of some rows.

    Attributes:
        logps: log p(token | what stands before it), [tokens], nats; float32, or float64 for a float64 model.
        response_index: The row each token belongs to, [tokens], int64, non-decreasing.
        position: Place of the token within its response, [tokens], int64, from 0; prompt tokens count up to -1.
        statistics: Detached values of the whole distribution by name, [tokens] each.
    """

    logps: Tensor
    response_index: Tensor
    position: Tensor
    statistics: Mapping[str, Tensor]


def _log_sum_sq(log_probs: Tensor) -> Tensor:
    return torch.logsumexp(2.0 * log_probs, dim=-1)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).nan_to_num(nan=0.0).sum(dim=-1)


STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = {"log_sum_sq": _log_sum_sq, "entropy": _entropy}

# What models do to the logits after the head, by the name of the setting in their config.
LOGIT_TRANSFORMS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "final_logit_softcapping": lambda logits, cap: torch.tanh(logits / cap) * cap,  # Gemma 2 and 3
    "logit_scale": lambda logits, scale: logits * scale,  # Cohere
    "logits_scaling": lambda logits, scale: logits / scale,  # Granite
    "lm_head_multiplier": lambda logits, scale: logits * scale,  # Falcon H1
}


def score_rows(
    model: "PreTrainedModel",
    rows: Sequence[Row],
    *,
    tile: int,
    prompt_tokens: bool = False,
    statistics: frozenset[str] = frozenset(),
) -> RowScores:
    """Token log-probs of responses given their prompts.

    Args:
        model: A causal language model, with or without adapters; its mode (dropout) is left as it is.
        rows: (prompt ids, response ids) of each response; neither is empty.
        tile: Tokens whose logits are held at a time, where all of them together would take too much.
        prompt_tokens: Score the prompt's tokens too (all but its first, which nothing predicts).
        statistics: Names of `STATISTICS` to compute beside the log-probs.

    Returns:
        Scores, row by row in the order given; gradients reach the model unless torch records none.

    Raises:
        DataError: If a row has an empty prompt or response.
        SettingsError: If a statistic is not known.
    """
    index = _index_rows(rows, prompt_tokens)
    device = next(model.parameters()).device
    causal = _causal_model(model)
    hidden = causal.base_model(input_ids=index.input_ids.to(device), use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1).index_select(0, index.source.to(device))
    wanted = {name: lookup(STATISTICS, name, "token statistic") for name in sorted(statistics)}
    logps, values = _score_hidden(causal, hidden, index.target.to(device), tile, wanted)
    return RowScores(logps, index.response_index.to(device), index.position.to(device), values)


def check_head(model: Any) -> None:
    """Make sure that fairplay knows all that this model does between its body and its logits.

    Args:
        model: A causal language model as loaded.

    Raises:
        DataError: If its own logits give other log-probs than `score_rows`.
    """
    vocabulary = model.config.get_text_config().vocab_size
    ids = [(7 * step + 1) % vocabulary for step in range(4)]
    training = model.training
    model.eval()
    with torch.no_grad():
        try:
            found = score_rows(model, [(ids[:1], ids[1:])], tile=1).logps
        except AttributeError as error:
            raise _unknown_head(model) from error
        logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, :-1]
    model.train(training)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:], device=logits.device)[:, None])[:, 0]
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        raise _unknown_head(model)


@dataclass(frozen=True)
class _Index:
    input_ids: Tensor  # [rows, columns]
    source: Tensor  # [tokens], flat place in [rows * columns] whose hidden state predicts the token
    target: Tensor  # [tokens]
    response_index: Tensor  # [tokens]
    position: Tensor  # [tokens]


def _index_rows(rows: Sequence[Row], prompt_tokens: bool) -> _Index:
    prompt_lengths = np.fromiter((len(prompt) for prompt, _ in rows), dtype=np.int64, count=len(rows))
    lengths = prompt_lengths + np.fromiter((len(response) for _, response in rows), dtype=np.int64, count=len(rows))
    if not len(rows) or prompt_lengths.min() < 1 or (lengths - prompt_lengths).min() < 1:
        raise DataError("a prompt or a response without tokens can't be scored", hint="leave such rows out")
    columns = np.arange(lengths.max())
    input_ids = np.zeros((len(rows), len(columns)), dtype=np.int64)
    flat_ids = np.fromiter(chain.from_iterable(chain.from_iterable(rows)), dtype=np.int64, count=int(lengths.sum()))
    input_ids[columns < lengths[:, None]] = flat_ids
    first = np.ones_like(prompt_lengths) if prompt_tokens else prompt_lengths
    row, column = np.nonzero((columns >= first[:, None]) & (columns < lengths[:, None]))
    return _Index(
        input_ids=torch.from_numpy(input_ids),
        source=torch.from_numpy(row * len(columns) + column - 1),
        target=torch.from_numpy(input_ids[row, column]),
        response_index=torch.from_numpy(row),
        position=torch.from_numpy(column - prompt_lengths[row]),
    )


def _causal_model(model: "PreTrainedModel") -> Any:
    """The causal language model inside peft's wrapper, adapters in place."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def _score_hidden(
    causal: Any, hidden: Tensor, target: Tensor, tile: int, wanted: Mapping[str, Callable[[Tensor], Tensor]]
) -> tuple[Tensor, dict[str, Tensor]]:
    head = causal.get_output_embeddings()
    config = causal.config.get_text_config()
    settings = [(change, getattr(config, name, None)) for name, change in LOGIT_TRANSFORMS.items()]
    transforms = [(change, value) for change, value in settings if value is not None]

    def score(hidden: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        logits = head(hidden)
        for change, value in transforms:
            logits = change(logits, value)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        log_probs = logits.log_softmax(dim=-1)
        logps = log_probs.gather(-1, target[:, None])[:, 0]
        with torch.no_grad():
            return logps, *(statistic(log_probs) for statistic in wanted.values())

    if hidden.shape[0] * config.vocab_size <= KEPT_LOGITS or tile >= hidden.shape[0]:
        parts = [score(hidden, target)]
    else:
        pairs = zip(torch.split(hidden, tile), torch.split(target, tile), strict=True)
        parts = [checkpoint(score, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs]
    logps, *values = (torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts, strict=True))
    return logps, dict(zip(wanted, values, strict=True))


def _unknown_head(model: "PreTrainedModel") -> DataError:
    return DataError(
        f"models of type {model.config.model_type} change their logits in a way that fairplay does not know",
        hint="add the change to LOGIT_TRANSFORMS in fairplay/models/token_logps.py",
    )
