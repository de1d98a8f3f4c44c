"""Everything that a report's page shows, as frozen dataclasses; the page is a pure function of them.

Left out: where the numbers come from (`pipeline/` builds these from finished stages) and how they look (`page.py`).
Floor 5; imports neither torch nor matplotlib. An empty tuple or mapping means that there is nothing of the kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fairplay.records import CheckpointGame, CheckpointStrengths, EvaluationResult, Interval, Message

JudgeRole = Literal["judge", "oracle"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One comparison, and in which role its judge acted.

    Attributes:
        role: `judge`, which the training never saw, or `oracle`, which made the training's preferences.
        result: Its `opponent` is "start", "previous", or another name, which is shown as it is.
        holm_p_value: P-value corrected over the comparisons that were declared in advance; None for the others.
    """

    role: JudgeRole
    result: EvaluationResult
    holm_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class CanaryGames:
    """How a response with a known win rate fared by the judge against the start policy.

    Attributes:
        title: What it is, in words.
        expected: What its win rate must be, in words.
        win_rate: None where no game was judged.
        alarm: What is wrong, in a sentence; empty where nothing is.
    """

    title: str
    expected: str
    win_rate: Interval | None
    num_prompts: int
    alarm: str


@dataclass(frozen=True, slots=True)
class SeenPrompts:
    """Held-out prompts that are training prompts: equal, or made of the same runs of words."""

    num_held_out: int
    num_training: int
    num_equal: int
    num_contained: int
    num_too_short: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyMarks:
    """Marks in one policy's held-out responses that are meant for a judge.

    Attributes:
        marks: Name of the mark, what it is, responses with it, ids of prompts where it is; those that were found.
        most_frequent_share: Share of the responses that are the most frequent text.
    """

    policy: str
    num_responses: int
    marks: tuple[tuple[str, str, int, tuple[str, ...]], ...]
    most_frequent_share: float


@dataclass(frozen=True, slots=True)
class Gates:
    """What the honesty gates found; nothing of the kind in a run of a release that had none.

    Attributes:
        oracle_is_judge: Whether the judge made the training's preferences.
        canaries: In the order in which they were judged.
        seen_prompts: At most one.
        marks: By policy, the start first.
    """

    oracle_is_judge: bool = False
    canaries: tuple[CanaryGames, ...] = ()
    seen_prompts: tuple[SeenPrompts, ...] = ()
    marks: tuple[PolicyMarks, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldOutLengths:
    """Lengths of a policy's responses to the held-out prompts.

    Attributes:
        lengths: [responses]; in the report's length unit.
        truncated_share: Share of responses cut at the generation limit, in [0, 1].
    """

    lengths: tuple[int, ...]
    truncated_share: float


@dataclass(frozen=True, slots=True)
class LengthEvidence:
    """How winning against the start policy goes with length, by the judge.

    Attributes:
        bins: (mean length difference, win rate) of groups of pairs of responses, by length difference.
        fitted: (length difference, win probability) by the length model; empty where all lengths are equal.
    """

    bins: tuple[tuple[float, Interval], ...]
    fitted: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class StageAccount:
    """What one stage took in and gave out.

    Attributes:
        rows_in, rows_out: Rows in the stage's own unit.
        dropped: Reason -> number of rows.
        seconds: Wall time.
        tokens: Tokens generated, read or trained on; 0 where the stage has none.
    """

    name: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]
    seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class IterationContents:
    """One finished iteration of self-play.

    Attributes:
        iteration: 1, 2, ...
        evaluations: By judge and oracle, against each opponent; the first one by the judge is the headline's.
        held_out: Lengths of the iterate's responses to the held-out prompts.
        metrics: Rows of the training's `metrics.jsonl`, in order; keys such as `step`, `loss`, `rewards/chosen`.
        audit: The oracle's audit on this iteration's preferences, by name as in `preferences.audit`.
        stages: In the order in which they ran.
        oracle_gaps: Opponent -> win rate by the oracle minus win rate by the judge, paired by prompt, in [-1, 1].
        length_evidence: At most one.
        sampling: How far the engine's log-probs were from the trainer's: `num_tokens`, `mean_abs`, `max_abs`, `kl`.
    """

    iteration: int
    evaluations: tuple[Evaluation, ...]
    held_out: HeldOutLengths
    metrics: tuple[Mapping[str, float], ...] = ()
    audit: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[StageAccount, ...] = ()
    oracle_gaps: Mapping[str, Interval] = field(default_factory=dict)
    length_evidence: tuple[LengthEvidence, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """P(the policy's response wins) by one judge, when it is shown first and when it is shown second."""

    role: JudgeRole
    win_prob_first: float
    win_prob_second: float

    @property
    def win_prob(self) -> float:
        """The mean of both presentation orders."""
        return 0.5 * (self.win_prob_first + self.win_prob_second)


@dataclass(frozen=True, slots=True)
class Sample:
    """Two responses to one held-out prompt, side by side.

    Attributes:
        iteration: Which iterate wrote `policy_text`.
        sample: Index of the sample pair within the prompt.
        policy, opponent: Who wrote the two responses, in words for a reader.
        verdicts: At most one of each role; the judge's decides wins, losses and ties.
    """

    prompt_id: str
    iteration: int
    sample: int
    messages: tuple[Message, ...]
    policy: str
    policy_text: str
    policy_length: int
    opponent: str
    opponent_text: str
    opponent_length: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A further table of finished text.

    Attributes:
        key: Its anchor on the page, a word.
        title, about: Its heading, and what a reader must know, in sentences.
        columns: Heads; the first column names the rows.
        rows: Each as long as `columns`.
    """

    key: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ReportContents:
    """One run, as its page shows it.

    Attributes:
        run: The run's name.
        seed: The run's seed; it also orders the sample browser.
        objective: What the policy was trained with, in words or by name.
        judge, oracle: Names (kind and identity) of who judged and of who made the training's preferences.
        settings: The run's settings as YAML text.
        start: Lengths of the start policy's responses to the held-out prompts.
        iterations: Finished iterations in order; may be empty.
        samples: All of them; the page shows as many as it has room for, chosen by hash.
        checkpoints: The game of all checkpoints; at most one.
        strengths: The checkpoints on one scale; at most one.
        tables: Further tables, in their order.
        gates: What was found about judge, responses and prompts.
        length_unit: Of every length in the contents.
        notes: What else a reader must know to trust the numbers, in full sentences.
    """

    run: str
    seed: int
    objective: str
    judge: str
    oracle: str
    settings: str
    start: HeldOutLengths
    iterations: tuple[IterationContents, ...]
    samples: tuple[Sample, ...] = ()
    checkpoints: tuple[CheckpointGame, ...] = ()
    strengths: tuple[CheckpointStrengths, ...] = ()
    tables: tuple[PlainTable, ...] = ()
    gates: Gates = field(default_factory=Gates)
    length_unit: str = "tokens"
    notes: tuple[str, ...] = ()
