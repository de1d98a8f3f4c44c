"""An objective as data: the slots of the one decomposition, and nothing that computes.

    token log-probs (a, b)  --tokens w-->  u = sum_t w_t (a_t - b_t)  --link, beta-->  reward r = beta * link(u)
    rewards of a row  --contrast A, scale, offset-->  margin m = scale * (A . r) - offset
    margin  --loss f, coefficient c-->  sum_k c_k f_k(m_k)  --weight, + likelihood, reduction-->  loss

Left out: the evaluation (`evaluate.py`), the catalogue (`table.py`). Floor 2.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from fairplay.objectives.anchors import Anchor, NoAnchor, State
from fairplay.objectives.columns import Column
from fairplay.objectives.comparisons import Comparison, Pairs
from fairplay.objectives.couplings import Matching, Reduction, as_paired, mean_over_examples
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.links import Link, identity
from fairplay.objectives.losses import Loss, square
from fairplay.objectives.seats import ReferenceWeight, TokenWeight, alike
from fairplay.objectives.tokens import Sum

Contrast = tuple[float, float]
PAIR: Contrast = (1.0, -1.0)
CHOSEN: Contrast = (1.0, 0.0)
REJECTED: Contrast = (0.0, 1.0)
NOT_CHOSEN: Contrast = (-1.0, 0.0)
NOT_REJECTED: Contrast = (0.0, -1.0)


@dataclass(frozen=True)
class Term:
    """coefficient * loss(scale * (contrast . (r_chosen, r_rejected)) - offset)."""

    contrast: Contrast
    loss: Loss
    coefficient: Column = 1.0
    scale: Column = 1.0
    offset: Column = 0.0


@dataclass(frozen=True)
class Objective:
    """What is minimised. Parts say what they need in `needs`, and whether they couple the examples of a step.

    Attributes:
        terms: What is asked of every row's rewards; none for pure likelihood.
        comparison: Which responses are held against which.
        tokens: The weight of each token in a response's log-prob.
        reference_tokens: The same under the reference, where the policy's weights are not the reference's.
        reference: Whether rewards are measured against the reference policy.
        beta: Scale of the rewards.
        link: From a log-ratio to an unscaled reward.
        anchor: A detached statistic of the step for offsets and scales to read.
        matching: How the two sides' rewards meet.
        weight: Detached weight of each row's terms.
        likelihood: Negative log-likelihood of the chosen responses, added per row.
        reduction: From example losses to the step's loss.
        name: For messages.
    """

    terms: tuple[Term, ...] = ()
    comparison: Comparison = field(default_factory=Pairs)
    tokens: TokenWeight = field(default_factory=Sum)
    reference_tokens: ReferenceWeight = alike
    reference: bool = True
    beta: float = 1.0
    link: Link = identity
    anchor: Anchor = field(default_factory=NoAnchor)
    matching: Matching = as_paired
    weight: Column = 1.0
    likelihood: Likelihood = field(default_factory=Likelihood)
    reduction: Reduction = mean_over_examples
    name: str = "objective"

    @cached_property
    def needs(self) -> frozenset[str]:
        """What a batch must have: of "pairs", "win_rates", "labels", "scores", "anchors", "statistics:NAME", ..."""
        asked = frozenset[str]().union(*(getattr(part, "needs", ()) for part in self._parts()))
        return asked | {"reference"} if self.reference else asked

    @property
    def needs_reference(self) -> bool:
        """Whether the batch must have reference log-probs."""
        return "reference" in self.needs

    @cached_property
    def couples_examples(self) -> bool:
        """Whether an example's gradient depends on the other examples of the step, so that it can't be split."""
        return any(getattr(part, "couples_examples", False) for part in self._parts())

    @property
    def is_regression(self) -> bool:
        """Whether margins are regressed to targets rather than pushed apart."""
        return any(term.loss is square for term in self.terms)

    @property
    def initial_state(self) -> State:
        """The anchor's state before the first step; plain numbers, to be saved in checkpoints."""
        return self.anchor.initial

    def in_expectation(self) -> "Objective":
        """The same objective with every random draw replaced by its expected log-ratio, for evaluation.

        This very one where nothing is drawn.
        """
        return self._in_expectation

    @cached_property
    def _in_expectation(self) -> "Objective":
        expected = replace(
            self,
            tokens=getattr(self.tokens, "in_expectation", self.tokens),
            reference_tokens=getattr(self.reference_tokens, "in_expectation", self.reference_tokens),
            comparison=getattr(self.comparison, "once", self.comparison),
        )
        return self if expected == self else expected

    def _parts(self) -> Iterator[object]:
        for slot in fields(self):
            yield getattr(self, slot.name)
        for term in self.terms:
            for slot in fields(term):
                yield getattr(term, slot.name)


def flipped(term: Term, coefficient: Column) -> Term:
    """The same term on the pair in the other order, with the same offset to reach; for label noise and soft labels."""
    return replace(term, contrast=(-term.contrast[0], -term.contrast[1]), coefficient=coefficient)


def with_soft_label(term: Term, right: Column, wrong: Column) -> tuple[Term, Term]:
    """`right` times the term plus `wrong` times the term with its labels flipped; serves every loss and contrast."""
    return replace(term, coefficient=right), flipped(term, wrong)
