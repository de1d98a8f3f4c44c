"""Several oracles as one: their verdicts averaged, each at its own temperature, and how far they disagree.

A pair that one of the members did not compare has no verdict. Left out: weights of the members. Floor 4; no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp

from fairplay.oracles.contract import PreferenceOracle
from fairplay.preferences.win_matrix import orders_read
from fairplay.records import PreferenceGroup, ResponseGroup

Logits = NDArray[np.float64]


class EnsembleOracle:
    """Averages its members.

    Args:
        members: Two or more.
        combine: A name in `COMBINES`.
        temperature: Divides the combined logits; the members' own temperatures are applied before.
    """

    def __init__(self, members: Sequence[PreferenceOracle], *, combine: str, temperature: float) -> None:
        self.members, self.combine, self.temperature = tuple(members), COMBINES[combine], temperature
        self.name = f"ensemble:{combine}({', '.join(member.name for member in members)})"

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge the pairs of each group by every member; see `PreferenceOracle`."""
        verdicts = [member.pair_logits(groups) for member in self.members]
        return [self._combined(group, of_group) for group, *of_group in zip(groups, *verdicts, strict=True)]

    def _combined(self, group: ResponseGroup, verdicts: Sequence[PreferenceGroup]) -> PreferenceGroup:
        size = len(group.responses)
        temperatures = np.asarray([member.temperature for member in self.members])[:, None, None]
        logits = np.asarray([item.pair_logits for item in verdicts], dtype=np.float64).reshape(-1, size, size)
        logits /= temperatures  # None is NaN from here on: what one member did not read, the mean does not have
        read = np.asarray([orders_read(item) for item in verdicts]).reshape(-1, size, size)
        anchors = [item.anchors for item in verdicts if item.anchors]
        return PreferenceGroup(
            group,
            _rows(self.combine(logits), np.asarray(read.all(axis=0))),
            tuple(bool(any(item.truncated[place] for item in verdicts)) for place in range(size)),
            any(item.prompt_truncated for item in verdicts),
            min(anchors, key=len, default=()),
            _rows(*_disagreement(logits, read)),
            tuple(reason for item in verdicts for reason in item.missing),
        )


def mean_of_logits(logits: Logits) -> Logits:
    """The mean over members, [members, K, K] -> [K, K]."""
    return np.asarray(logits.mean(axis=0))


def mean_of_probabilities(logits: Logits) -> Logits:
    """The logit of the mean probability, [members, K, K] -> [K, K]; finite however sure the members are."""
    return np.asarray(logsumexp(log_expit(logits), axis=0) - logsumexp(log_expit(-logits), axis=0))


COMBINES: Mapping[str, Callable[[Logits], Logits]] = MappingProxyType(
    {"logits": mean_of_logits, "probs": mean_of_probabilities}
)


def _disagreement(logits: Logits, read: NDArray[np.bool_]) -> tuple[Logits, NDArray[np.bool_]]:
    """Standard deviation over members of P(i beats j), orders averaged, and where all of them compared the pair."""
    mirrored = -logits.transpose(0, 2, 1)
    both = read & read.transpose(0, 2, 1)
    symmetric = np.where(both, 0.5 * (logits + mirrored), np.where(read, logits, mirrored))
    compared = read | read.transpose(0, 2, 1)
    return np.asarray(expit(symmetric).std(axis=0)), np.asarray(compared.all(axis=0))


def _rows(values: Logits, is_there: NDArray[np.bool_]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(
        tuple(value if there else None for value, there in zip(row, present, strict=True))
        for row, present in zip(values.tolist(), is_there.tolist(), strict=True)
    )
