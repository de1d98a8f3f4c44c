"""Log-probs of response tokens under a causal language model, flat, with gradients where torch records them.

The model's body reads the rows in a layout (`layouts.py`, `body.py`). Padded rows carry no attention mask: a causal
model can't look at what comes after, and positions count from 0, learned ones too. Only the positions that predict a
scored token reach the head (`head.py`). Left out: what the log-probs are for (`objectives/`), caching, which
layouts a model can take (`probe.py`). Floor 3.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairplay.errors import DataError, SettingsError
from fairplay.logps import to_device
from fairplay.lookup import lookup
from fairplay.models.adapters import adapters_off
from fairplay.models.body import causal_model, hidden_states
from fairplay.models.head import DIVERGENCES, STATISTICS, Heads, score_hidden
from fairplay.models.layouts import Row, lay_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class RowScores:
    """Scores of the tokens of some rows.

    Attributes:
        logps: log p(token | what stands before it), [tokens], nats; float32, or float64 for a float64 model.
        response_index: The row each token belongs to, [tokens], int64, non-decreasing.
        position: Place of the token within its response, [tokens], int64, from 0; prompt tokens count up to -1.
        statistics: Values of the whole distribution by name, [tokens] each; detached, but for divergences.
    """

    logps: Tensor
    response_index: Tensor
    position: Tensor
    statistics: Mapping[str, Tensor]


def score_rows(
    model: "PreTrainedModel",
    rows: Sequence[Row],
    *,
    tile: int,
    prompt_tokens: bool = False,
    statistics: frozenset[str] = frozenset(),
    reference: "PreTrainedModel | None" = None,
    layout: str = "padded",
    reference_layout: str = "padded",
) -> RowScores:
    """Token log-probs of responses given their prompts.

    Args:
        model: A causal language model, with or without adapters; its mode (dropout) is left as it is.
        rows: (prompt ids, response ids) of each response; neither is empty.
        tile: Tokens whose logits are held at a time, where all of them together would take too much.
        prompt_tokens: Score the prompt's tokens too (all but its first, which nothing predicts).
        statistics: Names of `STATISTICS` and `DIVERGENCES` to compute beside the log-probs.
        reference: The model that divergences are taken against, with the same vocabulary; needed only for them. The
            model itself stands for what it is without its adapters.
        layout: How the rows lie in the model's input, a name in `LAYOUTS`; the scores are the same. Which ones a model
            can take, `probe.choose_layout` finds out.
        reference_layout: The same for the reference.

    Returns:
        Scores, row by row in the order given; gradients reach the model unless torch records none.

    Raises:
        DataError: If a row has an empty prompt or response.
        SettingsError: If a statistic or layout is not known, or the reference has another vocabulary.
        Unsupported: If the model can't take this layout, and notices.
    """
    laid = lay_rows(rows, layout, prompt_tokens=prompt_tokens)
    hidden = hidden_states(model, laid)
    device = hidden.device
    causal = causal_model(model)
    wanted = {name: lookup(STATISTICS, name, "token statistic") for name in sorted(statistics - set(DIVERGENCES))}
    divergences = {name: DIVERGENCES[name] for name in sorted(statistics & set(DIVERGENCES))}
    inputs = [hidden, to_device(laid.target, device)]
    other = None
    if divergences:
        reference, other = _reference_of(reference, causal)
        with torch.no_grad(), adapters_off(model) if reference is model else nullcontext():
            of_reference = lay_rows(rows, reference_layout, prompt_tokens=prompt_tokens)
            inputs.append(hidden_states(reference, of_reference).to(device))
    logps, values = score_hidden(Heads(causal, other, wanted, divergences), inputs, tile)
    return RowScores(logps, to_device(laid.response_index, device), to_device(laid.position, device), values)


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


def _reference_of(reference: "PreTrainedModel | None", causal: Any) -> "tuple[PreTrainedModel, Any]":
    """The reference, and the causal language model inside it."""
    if reference is None:
        raise ValueError("divergences need the reference model")
    other = causal_model(reference)
    sizes = [model.config.get_text_config().vocab_size for model in (causal, other)]
    if sizes[0] != sizes[1]:
        raise SettingsError(
            f"the policy has {sizes[0]} tokens, the reference {sizes[1]}: their distributions can't be compared",
            hint="take a reference with the policy's vocabulary, or an objective without divergences",
        )
    return reference, other


def _unknown_head(model: "PreTrainedModel") -> DataError:
    return DataError(
        f"models of type {model.config.model_type} change their logits in a way that fairplay does not know",
        hint="add the change to LOGIT_TRANSFORMS in fairplay/models/head.py",
    )
