"""One optimiser step of an oracle: from labelled pairs to the gradient of the loss -log P(the labelled winner wins).

Left out: the optimiser, schedule, records and checkpoints, which are those of every training (`steps.py`). Floor 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import logsigmoid

from fairplay.objectives.anchors import STATELESS, State
from fairplay.seeds import stable_seed
from fairplay.training.batches import ReferenceLogps
from fairplay.training.distributed import ALONE, Ranks
from fairplay.training.learning import StepOutcome
from fairplay.training.metrics import MetricWindow
from fairplay.training.oracle_pairs import EncodedPair, TrainableOracle
from fairplay.training.plan import Step

NO_REFERENCE = ReferenceLogps()


@dataclass(frozen=True)
class OracleLearner:
    """Everything that a step's gradient depends on besides the weights.

    Attributes:
        oracle: What learns.
        pairs: All pairs that are learnt from.
        seed: The run's seed; the order in which a pair is shown is drawn anew in every pass.
        length_penalty: Weight of the squared correlation of logit and length difference, see `length_correlation`.
        label_smoothing: Share of the labels that are taken to be wrong.
        bf16: Whether to compute in bfloat16 by autocast.
    """

    oracle: TrainableOracle
    pairs: Sequence[EncodedPair]
    seed: int
    length_penalty: float = 0.0
    label_smoothing: float = 0.0
    bf16: bool = False

    @property
    def model(self) -> Module:
        """The oracle's weights."""
        return self.oracle.model

    @property
    def ranks(self) -> Ranks:
        """An oracle learns in one process."""
        return ALONE

    @property
    def initial_state(self) -> State:
        """None: the loss remembers nothing."""
        return STATELESS

    @property
    def reference(self) -> ReferenceLogps:
        """None: an oracle is held to no other."""
        return NO_REFERENCE

    def with_reference(self, reference: ReferenceLogps) -> Self:
        """The same."""
        return self

    def accumulate(self, step: Step, *, number: int, epoch: int, state: State, window: MetricWindow) -> StepOutcome:
        """Add the gradient of the step's loss to the parameters; see `Learns`."""
        num_pairs = sum(map(len, step))
        losses: list[Tensor] = []
        pair_losses: list[tuple[list[str], Tensor]] = []
        for place, indices in enumerate(step):
            torch.manual_seed(stable_seed(self.seed, "dropout", number, place))
            pairs = [self.pairs[index] for index in indices]
            logits = self._logits(pairs, epoch)
            lengths = torch.tensor([pair.lengths for pair in pairs], device=logits.device)
            each = pair_loss(logits, label_smoothing=self.label_smoothing)
            loss = each.sum() / num_pairs
            if self.length_penalty:
                share = len(pairs) / num_pairs
                gaps = (lengths[:, 0] - lengths[:, 1]).to(logits.dtype)
                loss = loss + share * self.length_penalty * length_correlation(logits, gaps).square()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            pair_losses.append(([pair.id for pair in pairs], each.detach()))
            window.add_verdicts(losses[-1], logits, lengths)
        tokens = sum(self._num_tokens(self.pairs[index]) for index in chain(*step))
        return StepOutcome(torch.stack(losses).sum(), pair_losses, tokens, state)

    def _logits(self, pairs: Sequence[EncodedPair], epoch: int) -> Tensor:
        chosen_first = [stable_seed(self.seed, "pair order", epoch, pair.id) % 2 == 0 for pair in pairs]
        kind = next(self.model.parameters()).device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.bf16):
            logits = self.oracle.logits(pairs, chosen_first)
        return logits.float() if self.bf16 else logits

    def _num_tokens(self, pair: EncodedPair) -> int:
        return len(pair.ids[0]) + (0 if self.oracle.compares else len(pair.ids[1]))


class NeverRenewed:
    """The renewals of a reference that isn't there."""

    def is_due(self, number: int) -> bool:
        """Never."""
        return False

    def renewed(self, policy: Any, number: int) -> ReferenceLogps:
        """Nothing."""
        return NO_REFERENCE

    def state(self, reference: ReferenceLogps, step: int) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, Tensor], reference: ReferenceLogps, step: int) -> ReferenceLogps:
        """Nothing."""
        return reference


def pair_loss(logits: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(d) - e log sigmoid(-d) of each pair, nats.

    Args:
        logits: Logit d that the labelled winner wins, [pairs].
        label_smoothing: e, the share of labels taken to be wrong, in [0, 1/2).

    Returns:
        [pairs].

    Source: Bradley and Terry 1952; with e: Mitchell 2023, "A note on DPO with noisy preferences" (conservative DPO).
    """
    losses = -logsigmoid(logits)
    return losses + label_smoothing * logits if label_smoothing else losses


def length_correlation(logits: Tensor, gaps: Tensor) -> Tensor:
    """Correlation of logit and length difference over both ways to write each pair: sum d g / sqrt(sum d^2 sum g^2).

    Written the other way round, both d and g change their signs, so neither has a mean to take away.

    Args:
        logits: Logit d that the labelled winner wins, [pairs].
        gaps: Tokens of the labelled winner less those of the loser, [pairs].

    Returns:
        A scalar in [-1, 1]; 0 where all lengths are equal.

    Source: the penalty on the correlation of reward and length of ODIN, Chen et al. 2024, arXiv:2402.07319, here of
        differences within pairs and without its second head; it needs no reward of a single response.
    """
    tiny = torch.finfo(logits.dtype).tiny  # keeps the gradient finite where all logits are 0
    return (logits * gaps).sum() / torch.sqrt(logits.square().sum() * gaps.square().sum() + tiny)
