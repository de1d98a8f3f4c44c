"""Golden values: any file of named objectives on given log-probs, compared with what the table computes.

Left out: reading the file and telling the outcome (the command line). Floor 2.
The file has `data` (token log-probs of pairs, and of one list of responses), `params`, and under `objectives` each
one's `loss` and `grad` (by policy token log-prob), under `listwise` each one's `value`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch, TokenLogps
from fairplay.objectives.evaluate import token_gradient
from fairplay.objectives.golden_parameters import PARAMETERS
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.seats import TokenWeight
from fairplay.objectives.table import build_objective
from fairplay.objectives.tokens import Given
from fairplay.seeds import stable_seed

Document = Mapping[str, Any]
STATISTICS = {
    "kl_ref_policy": "kl_ref_theta",
    "kl_policy_ref": "kl_theta_ref",
    "log_sum_sq": "log_sum_sq",
    "importance": "token_weights",
}
COLUMNS = {"scores": "score", "win_rates": "win_rate"}
GIVEN_DRAWS: Mapping[str, TokenWeight] = {"sampo": Given("kept")}


class Difference(NamedTuple):
    """How far an objective is from its golden value.

    Attributes:
        key: The objective's name.
        value: |loss - golden loss|.
        gradient: The largest absolute difference over all policy token log-probs; None where the file has no gradient.
    """

    key: str
    value: float
    gradient: float | None


def check_golden(document: Document, *, dtype: torch.dtype = torch.float64) -> list[Difference]:
    """Evaluate every objective of a file of golden values.

    Args:
        document: The parsed file.
        dtype: What to compute in.

    Raises:
        DataError: If the document lacks data or a parameter that one of its objectives needs.
        SettingsError: If it names an objective that the table does not have.
    """
    try:
        return list(_differences(document, dtype))
    except KeyError as error:
        raise DataError(f"golden values: {error} is missing", hint="it must have data, params, objectives") from error


def _differences(document: Document, dtype: torch.dtype) -> Iterator[Difference]:
    data, params = document["data"], document["params"]
    for name, golden in document.get("objectives", {}).items():
        loss, gradient = _evaluated(name, params, pair_batch(data, dtype))
        expected = torch.tensor(_interleaved(golden["grad"]["chosen"], golden["grad"]["rejected"]), dtype=dtype)
        yield Difference(name, _distance(loss, golden["loss"]), _distance(gradient[: len(expected)], expected))
    for name, golden in document.get("listwise", {}).items():
        loss, _ = _evaluated(name, params, list_batch(data, dtype))
        yield Difference(name, _distance(loss, golden["value"]), None)


def _evaluated(name: str, params: Mapping[str, float], batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    read_parameters: Callable[[Mapping[str, float]], Mapping[str, object]] = PARAMETERS.get(name, lambda _: {})
    objective = build_objective(name, read_parameters(params))
    objective = replace(objective, tokens=GIVEN_DRAWS.get(name, objective.tokens))
    gradient, output = token_gradient(objective, batch, batch_totals(batch))
    return output.loss, gradient


def _distance(ours: Tensor, golden: Tensor | float) -> float:
    """The largest absolute difference; infinite where one of them is not a number."""
    return float((ours - golden).abs().nan_to_num(nan=torch.inf).max())


def pair_batch(data: Mapping[str, Any], dtype: torch.dtype) -> PreferenceBatch:
    """The file's pairs as a batch, one pair an example, and KTO's mismatched sums as one-token anchor rows behind them.

    The anchor rows all belong to the last example, so the first tokens of the batch are the pairs', in order.
    """
    pairs, anchors = len(data["chosen_policy"]), list(data.get("kto_kl_policy", ()))
    policy = [*_alternating(data["chosen_policy"], data["rejected_policy"]), *([logp] for logp in anchors)]
    reference = [*_alternating(data["chosen_ref"], data["rejected_ref"]), *([x] for x in data.get("kto_kl_ref", ()))]
    fill = [0.0] * len(anchors)
    statistics = {
        name: torch.tensor([*_interleaved(data[f"{key}_chosen"], data[f"{key}_rejected"]), *fill], dtype=dtype)
        for name, key in STATISTICS.items()
        if f"{key}_chosen" in data
    }
    kept = _alternating(data.get("sampo_keep_chosen", ()), data.get("sampo_keep_rejected", ()))
    is_kept = [float(place in keep) for keep, logps in zip(kept, policy, strict=False) for place in range(len(logps))]
    columns = {
        name: torch.tensor(
            [*chain(*zip(data[f"{key}_chosen"], data[f"{key}_rejected"], strict=True)), *fill], dtype=dtype
        )
        for name, key in COLUMNS.items()
        if f"{key}_chosen" in data
    }
    return _batch(
        policy,
        reference,
        dtype=dtype,
        example=[*(i for i in range(pairs) for _ in range(2)), *([pairs - 1] * len(anchors))],
        pairs=torch.arange(2 * pairs).reshape(pairs, 2),
        statistics=statistics | ({"kept": torch.tensor([*is_kept, *fill], dtype=dtype)} if kept else {}),
        columns=columns | {"anchors": torch.tensor([0.0] * (2 * pairs) + [1.0] * len(anchors), dtype=dtype)},
    )


def list_batch(data: Mapping[str, Any], dtype: torch.dtype) -> PreferenceBatch:
    """The file's list as a batch of one example; sums of log-probs are spread evenly over the tokens."""
    lengths = data["list_len"]
    return _batch(
        [[total / length] * length for total, length in zip(data["list_policy"], lengths, strict=True)],
        [[total / length] * length for total, length in zip(data["list_ref"], lengths, strict=True)],
        dtype=dtype,
        example=[0] * len(lengths),
        pairs=torch.zeros(0, 2, dtype=torch.int64),
        statistics={},
        columns={"scores": torch.tensor(data["list_score"], dtype=dtype)},
    )


def _batch(
    policy: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    *,
    dtype: torch.dtype,
    example: Sequence[int],
    pairs: Tensor,
    statistics: Mapping[str, Tensor],
    columns: Mapping[str, Tensor],
) -> PreferenceBatch:
    logps = TokenLogps(
        policy=torch.tensor([*chain(*policy)], dtype=dtype),
        reference=torch.tensor([*chain(*reference)], dtype=dtype),
        response_index=torch.tensor([i for i, tokens in enumerate(policy) for _ in tokens]),
        position=torch.tensor([place for tokens in policy for place in range(len(tokens))]),
        num_responses=len(policy),
        statistics=statistics,
    )
    num_examples = max(example) + 1
    return PreferenceBatch(
        logps=logps,
        example_index=torch.tensor(example),
        num_examples=num_examples,
        pairs=pairs,
        example_keys=torch.tensor([stable_seed("golden", i) for i in range(num_examples)]),
        columns=columns,
    )


def _alternating(chosen: Sequence[Any], rejected: Sequence[Any]) -> list[Any]:
    return [*chain(*zip(chosen, rejected, strict=True))]


def _interleaved(chosen: Sequence[Sequence[float]], rejected: Sequence[Sequence[float]]) -> list[float]:
    return [*chain(*_alternating(chosen, rejected))]
