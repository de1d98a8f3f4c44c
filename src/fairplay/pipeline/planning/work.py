"""How much work each stage of a run has: rows, tokens, forward passes and bytes on disk; counted, not timed.

Left out: what it costs (`costs.py`). Floor 7; pure.
"""

from dataclasses import dataclass

from fairplay.evaluation.settings import SECOND_SAMPLE
from fairplay.oracles.kinds.base import KindSettings, PairSettings, WeightsSettings
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, EXAMPLES, GAME, GATES, PREFERENCES, PROMPTS, RESPONSES
from fairplay.pipeline.settings import RunSettings
from fairplay.preferences.settings import SEVERAL_PAIRS

START = f"{EVALUATION} of iteration 0"
"""The start policy's responses on the held-out prompts: it is an opponent, and nobody judges it."""
_BYTES_A_TOKEN = 8  # of a kept response: its id and its text, compressed
_BYTES_A_LOGIT = 8
_BYTES_A_VERDICT = 30  # measured on the demo


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens of prompts and responses, and where the second comes from (`measured` or `assumed`)."""

    prompt: float
    response: float
    source: str


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage of one iteration.

    Attributes:
        stage: Its folder's name.
        count: What it goes through, in the unit of `unit`.
        unit: prompts, responses, pairs, examples, verdicts.
        tokens: Tokens read or drawn, of all its forward passes.
        passes: Rows of its forward passes (drawn responses, read pairs, training examples times epochs).
        disk: Bytes that it leaves.
        drawn: Of its passes, those that draw responses to judge.
        questions: What it asks chat servers as oracle or judge, at most: equal responses tie unasked.
    """

    stage: str
    count: int
    unit: str
    tokens: float = 0
    passes: float = 0
    disk: float = 0
    drawn: int = 0
    questions: int = 0


def responses_per_example(settings: RunSettings) -> float:
    """Responses of one training example: all K, or those of its pairs."""
    if settings.selection.kind == "all":
        return settings.generation.num_responses
    pairs = settings.selection.num_pairs if settings.selection.kind in SEVERAL_PAIRS else 1
    return 2 * pairs


def comparisons(oracle: KindSettings, num_responses: int) -> int:
    """Forward passes of an oracle for one prompt's responses; 0 for one without weights."""
    if not isinstance(oracle, WeightsSettings):
        return 0
    return oracle.num_readings(num_responses) if isinstance(oracle, PairSettings) else num_responses


def passage(oracle: KindSettings, lengths: Lengths) -> float:
    """Tokens that an oracle reads in one forward pass."""
    return lengths.prompt + lengths.response * (2 if isinstance(oracle, PairSettings) else 1)


def evaluation_readings(settings: RunSettings, samples: int) -> int:
    """Forward passes in which the training oracle reads an evaluation's games, as the judge does."""
    return samples * len(settings.evaluation.opponents) * comparisons(settings.oracle.as_judge(), 2)


def iteration_work(
    settings: RunSettings, *, prompts: int, held_out: int, lengths: Lengths, weight_bytes: float
) -> list[StageWork]:
    """The stages of one iteration, in their order.

    Args:
        settings: The run's settings.
        prompts: Prompts of an iteration.
        held_out: Prompts that it is evaluated on.
        lengths: Mean tokens.
        weight_bytes: Bytes of a saved policy; 0 where its size is not known.
    """
    number, p, r = settings.generation.num_responses, lengths.prompt, lengths.response
    oracle_passes = prompts * comparisons(settings.oracle, number)
    kept = responses_per_example(settings)
    epochs = settings.training.num_train_epochs
    samples = held_out * settings.evaluation.num_samples
    judge = settings.evaluation.judge
    games = samples * len(settings.evaluation.opponents)
    verdicts, by_oracle = games * comparisons(judge, 2), evaluation_readings(settings, samples)
    drawn = prompts * number * r * _BYTES_A_TOKEN
    return [
        StageWork(PROMPTS, prompts, "prompts", disk=prompts * p * _BYTES_A_TOKEN),
        StageWork(
            RESPONSES,
            prompts * number,
            "responses",
            prompts * (p + number * r),
            prompts * number,
            drawn,
        ),
        StageWork(
            PREFERENCES,
            oracle_passes,
            "passes of the oracle",
            oracle_passes * passage(settings.oracle, lengths),
            oracle_passes,
            drawn + prompts * number**2 * _BYTES_A_LOGIT,
            questions=prompts * settings.oracle.num_questions(number),
        ),
        StageWork(EXAMPLES, prompts, "examples", disk=prompts * kept * r * _BYTES_A_TOKEN),
        StageWork(
            CHECKPOINT,
            prompts,
            "examples",
            prompts * (p + kept * r) * (epochs + 1),  # once more for the reference's log-probs
            prompts * kept * (epochs + 1),
            weight_bytes + 4 * prompts * kept * r,
        ),
        StageWork(
            EVALUATION,
            samples,
            "responses",
            samples * (p + r) + verdicts * passage(judge, lengths) + by_oracle * passage(settings.oracle, lengths),
            samples + verdicts + by_oracle,
            samples * r * _BYTES_A_TOKEN + 2 * games * _BYTES_A_VERDICT,
            samples,
            games * (judge.num_questions(2) + settings.oracle.as_judge().num_questions(2)),
        ),
    ]


def start_work(settings: RunSettings, *, held_out: int, lengths: Lengths) -> StageWork:
    """The responses of the policy that the run starts from, before anything is trained."""
    samples = held_out * settings.evaluation.num_samples
    tokens, disk = samples * (lengths.prompt + lengths.response), samples * lengths.response * _BYTES_A_TOKEN
    return StageWork(START, samples, "responses", tokens, samples, disk, samples)


def game_work(settings: RunSettings, *, held_out: int, lengths: Lengths) -> StageWork:
    """The games of checkpoints that have not met, after the last iteration."""
    number = settings.num_iterations
    games = (
        max(0, number * (number + 1) // 2 - number - max(0, number - 1)) if settings.evaluation.all_checkpoints else 0
    )
    verdicts = games * held_out * settings.evaluation.num_samples
    passes = verdicts * comparisons(settings.evaluation.judge, 2)
    read = passes * passage(settings.evaluation.judge, lengths)
    asked = verdicts * settings.evaluation.judge.num_questions(2)
    return StageWork(GAME, verdicts, "verdicts", read, passes, verdicts * _BYTES_A_VERDICT, questions=asked)


def gates_work(settings: RunSettings, *, held_out: int, lengths: Lengths) -> StageWork:
    """The canaries' games before anything is trained: every pair in both presentation orders."""
    evaluation = settings.evaluation
    prompts = min(evaluation.num_canary_prompts or held_out, held_out)
    games = len(evaluation.canaries) * prompts
    passes = games * comparisons(evaluation.judge, 2)
    drawn = prompts if SECOND_SAMPLE in evaluation.canaries else 0
    return StageWork(
        GATES,
        2 * games,
        "verdicts",
        passes * passage(evaluation.judge, lengths) + drawn * (lengths.prompt + lengths.response),
        passes + drawn,
        games * _BYTES_A_VERDICT + drawn * lengths.response * _BYTES_A_TOKEN,
        drawn,
        games * evaluation.judge.num_questions(2),
    )
