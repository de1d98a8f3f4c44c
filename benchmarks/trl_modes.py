"""The modes of TRL's DPOTrainer that are tried, by version. Left out: the trainer (`trl_engine.py`).

Needs neither TRL nor fairplay, so that both processes can read it where TRL runs in one of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """How TRL is set.

    Attributes:
        pairs: Pairs a micro-batch; 4 are all pairs of a step in each set of `workloads.SETS`.
        checkpointing: Gradient checkpointing, TRL's default.
        precomputed: Reference log-probs computed once, before the first step.
        kept_logits: Logits from the first response token of the micro-batch on, not of prompts (TRL before 1.0).
        padding_free: Rows of a micro-batch one after another, under a mask of blocks (TRL before 1.0).
        liger: Loss and head by liger-kernel, in chunks of a pair (TRL before 1.0).
    """

    pairs: int = 4
    checkpointing: bool = False
    precomputed: bool = False
    kept_logits: bool = False
    padding_free: bool = False
    liger: bool = False

    @property
    def name(self) -> str:
        """As it is told."""
        more = {
            "checkpointing": self.checkpointing,
            "logits_to_keep": self.kept_logits,
            "padding_free": self.padding_free,
            "Liger's loss": self.liger,
        }
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        reference = "reference precomputed" if self.precomputed else "reference every step"
        return ", ".join(("TRL", pairs, reference, *(word for word, is_on in more.items() if is_on)))


DEFAULT = Mode(checkpointing=True)
"""TRL's defaults but for the micro-batch: its own is 8 pairs, and larger ones were slower."""

SIZES = 4, 2, 1
COMMON = DEFAULT, Mode(), *(Mode(pairs=pairs, precomputed=True) for pairs in SIZES)
QUICK = {
    "1": (DEFAULT, Mode(pairs=1, precomputed=True)),
    "0": (DEFAULT, Mode(pairs=1, precomputed=True, kept_logits=True)),
}
"""Major version of TRL -> its default, and what was its best so far."""

ALL = {
    "1": (*COMMON, Mode(pairs=1, precomputed=True, checkpointing=True)),
    "0": (
        *COMMON,
        *(Mode(pairs=pairs, precomputed=True, kept_logits=True) for pairs in SIZES),
        Mode(pairs=1, precomputed=True, kept_logits=True, checkpointing=True),
        *(Mode(pairs=pairs, precomputed=True, padding_free=True) for pairs in SIZES),
        *(Mode(pairs=pairs, liger=True, kept_logits=kept) for pairs in (4, 1) for kept in (False, True)),
    ),
}


def modes_of(version: str, *, has_liger: bool, quick: bool) -> tuple[Mode, ...]:
    """The modes that a version of TRL is tried in.

    Args:
        version: Of TRL.
        has_liger: Whether liger-kernel can be imported beside it.
        quick: Only the default and the best so far.
    """
    return tuple(mode for mode in (QUICK if quick else ALL)[version.split(".")[0]] if has_liger or not mode.liger)
