"""The things that flow through fairplay, from prompts to evaluation results, as frozen dataclasses.

Left out: tensors (`logps.py`), reading and writing (`storage/`, `data/`). Floor 1; imports neither torch nor numpy.
An empty tuple in an optional column means that the column is absent; no field is ever "not yet" filled.

    Prompt -> ResponseGroup -> PreferenceGroup -> TrainingExample -> (weights) -> Judgement -> EvaluationResult
"""

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "given"]
Advice = Literal["go on", "no progress", "stop"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was asked: chat messages that end with a user turn. The id is unique within its dataset."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """One response to a prompt.

    Attributes:
        text: The text without control tokens.
        token_ids: Ids as the policy sampled them, end-of-turn token included where there is one; empty for text from
            elsewhere, which training tokenises.
        finish_reason: `stop` (ended by itself), `length` (cut at the limit), `given` (came with the data).
        seed: The seed of the sample; -1 for text from elsewhere.
        logps: log pi(token) of each of `token_ids` in nats, as the engine saw it when it sampled, before temperature
            and top-p; empty where it told none. A measurement, true to rounding: no part of what makes two equal.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "given"
    seed: int = -1
    logps: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ResponseGroup:
    """K responses by one policy to one prompt; `prompt_token_ids` is the prompt as the policy read it, or empty."""

    prompt: Prompt
    responses: tuple[Response, ...]
    prompt_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferenceGroup:
    """A response group with an oracle's verdict on every pair.

    Attributes:
        pair_logits: [K][K]; entry [i][j] is the logit that response i beats j when i is shown first; 0 on the diagonal.
            None where that order was not read. The presentation orders are kept apart here; `preferences.win_matrix`
            symmetrises and calibrates.
        truncated: [K]; whether the oracle read only a part of the response.
        prompt_truncated: Whether it read only a part of the prompt, with every response.
        anchors: The responses with which all others were to be compared, in order; empty where every pair was. A pair
            that was to be compared and was read in neither order has no verdict, which is never a tie.
        disagreement: [K][K]; for several oracles in one: the standard deviation of their win probabilities, None where
            not all of them compared the pair; else empty.
        missing: Why an oracle that was asked gave no verdict: one reason for each such reading, in the order of the
            readings.
    """

    group: ResponseGroup
    pair_logits: tuple[tuple[float | None, ...], ...]
    truncated: tuple[bool, ...]
    prompt_truncated: bool = False
    anchors: tuple[int, ...] = ()
    disagreement: tuple[tuple[float | None, ...], ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """Responses to one prompt, stored once, with preferences as indices into them.

    A preference pair is R = 2 with pairs ((0, 1),); an unpaired, labelled row is R = 1; SPPO over all K is R = K.

    Attributes:
        id: Unique within the dataset; seeds every draw that concerns this example.
        pairs: (chosen, rejected) indices into `responses`.
        win_rates: [R]; P(response beats the policy that wrote it), in [0, 1]; empty if not known.
        labels: [R]; desirable or not, for unpaired objectives; empty if not known.
        scores: [R]; a scalar quality score; empty if not known.
        prompt_token_ids: The rendered prompt as the policy read it; empty if training is to render it.
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    win_rates: tuple[float, ...] = ()
    labels: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that was asked for and left out, with the reason; counted in manifests and reports, never silent.

    Attributes:
        id: The prompt's or example's id.
        reason: A short fixed phrase, the same for every item with that reason, such as "prompt too long".
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's verdict on one response of the policy against one of the opponent, both presentation orders kept.

    Attributes:
        prompt_id: The prompt; the unit over which intervals are drawn.
        sample: Index of the sample pair within the prompt.
        win_prob_first: P(policy's response wins) when it is shown first; a tie is 0.5.
        win_prob_second: P(policy's response wins) when it is shown second.
        policy_length, opponent_length: Lengths of the two responses in tokens.
    """

    prompt_id: str
    sample: int
    win_prob_first: float
    win_prob_second: float
    policy_length: int
    opponent_length: int

    @property
    def win_prob(self) -> float:
        """P(policy's response wins), the mean of both presentation orders."""
        return 0.5 * (self.win_prob_first + self.win_prob_second)


STATISTICS_VERSION = 3
"""Goes up whenever the same verdicts would be given other intervals, tests, or strengths; told with every result."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ComparisonStatistics:
    """What else the judgements of one comparison say; p-values and gaps are of the win rate.

    Attributes:
        p_value: Two-sided sign-flip p-value of "the policy wins as much as it loses", one comparison taken alone.
        minimum_detectable_gap: The true distance from one half that so many prompts find in 80 % of evaluations.
        first_position_bias: Mean of P(the first-shown wins) - 1/2.
        length_effect: Win rate minus length-controlled win rate; None where fewer than 30 prompts are won, or lost,
            because its interval would be too narrow.
        length_slope: phi of the length model, nats of log-odds per unit of tanh(gap / scale), positive where the judge
            rewards length; None as for `length_effect`.
        length_scale: The length gap that counts as one unit, in the unit of the lengths; 0 if all are equal.
        lc_extrapolates: Whether so few prompts have two responses of like length that the length-controlled win rate
            rests on its model more than on games: no headline.
        variance_between_prompts: Variance of the policy's true win probability from prompt to prompt; None where no
            prompt has two samples, which alone tell it from the next.
        variance_within_prompts: Variance of the outcome from sample to sample of one prompt; None likewise.
    """

    p_value: float
    minimum_detectable_gap: float
    first_position_bias: Interval
    length_effect: Interval | None
    length_slope: Interval | None
    length_scale: float
    lc_extrapolates: bool
    variance_between_prompts: float | None
    variance_within_prompts: float | None


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Win rate of a policy against an opponent by a judge; rates are in [0, 1], intervals at 95 %.

    Attributes:
        num_prompts: Prompts judged (the unit of the intervals).
        num_judgements: Sample pairs judged, over all prompts.
        dropped: Reason -> number of judgements asked for and not obtained.
        wins, ties, losses: Prompts whose mean win probability is above, at, or below one half.
        position_consistency: Share of judgements whose winner is the same in both presentation orders.
        first_position_bias: Mean of P(the first-shown wins) - 1/2.
        overlap: Share of prompts whose two lengths differ by less than 10 %; LC extrapolates where it is small.
        notes: What a reader must know to trust the numbers, in full sentences.
        statistics: Everything beside the headline; None in results of a release that had none.
        worst_case: The win rate over pairs if everything missing were lost (`low`), or won (`high`); empty likewise.
    """

    policy: str
    opponent: str
    judge: str
    num_prompts: int
    num_judgements: int
    win_rate: Interval
    lc_win_rate: Interval
    wins: int
    ties: int
    losses: int
    position_consistency: float
    first_position_bias: float
    mean_length: float
    opponent_mean_length: float
    overlap: float
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    statistics: ComparisonStatistics | None = None
    worst_case: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckpointGame:
    """What the checkpoints' games against each other say.

    Attributes:
        names: The checkpoints, the start first, the last iterate last.
        num_prompts: Prompts on which every pair was judged; the unit of the intervals.
        win_rates: [n][n]; entry [i][j] is P(i beats j) with its 95 % interval; 1/2 without width on the diagonal.
        nash: [n]; the von Neumann winner of the estimated matrix: the mixture that no checkpoint beats.
        exploiter: The checkpoint that does best against the last iterate; the last iterate itself where none beats it.
        exploitability: Its win rate against the last iterate minus 1/2, at least 0. Opponents are only the checkpoints,
            so the true exploitability, by any policy, is at least this.
        exploitability_low: What the former is at least, with 95 % confidence for all checkpoints at once.
        advice: `stop`: an earlier checkpoint beats the last one; `no progress`: the last does not measurably beat the
            one before; `go on`: it does.
    """

    names: tuple[str, ...]
    num_prompts: int
    win_rates: tuple[tuple[Interval, ...], ...]
    nash: tuple[float, ...]
    exploiter: str
    exploitability: float
    exploitability_low: float
    advice: Advice


@dataclass(frozen=True, slots=True)
class CheckpointStrengths:
    """All checkpoints on one scale, length taken out: Bradley-Terry strengths with one length coefficient.

    Attributes:
        names: The checkpoints, the start first.
        num_prompts: Prompts that were judged for some pair; the unit of the intervals.
        num_judgements: Sample pairs judged, over all pairs of checkpoints.
        strengths: theta, [n], nats of log-odds above the start, whose own is 0.
        covariance: Of the strengths, [n][n], by a jackknife over prompts; 0 for the start.
        lc_win_rates: [n][n]; entry [i][j] is P(i beats j) at equal lengths, sigmoid(theta_i - theta_j).
        length_slope: phi, nats per unit of tanh(length gap / length_scale); positive where the judge rewards length.
        length_scale: In the unit of the lengths; 0 if all are equal.
        misfit: The largest distance of a pair's win rate from what the strengths give it, in [0, 1]; what is beyond
            chance are circles.
    """

    names: tuple[str, ...]
    num_prompts: int
    num_judgements: int
    strengths: tuple[Interval, ...]
    covariance: tuple[tuple[float, ...], ...]
    lc_win_rates: tuple[tuple[Interval, ...], ...]
    length_slope: Interval
    length_scale: float
    misfit: float
