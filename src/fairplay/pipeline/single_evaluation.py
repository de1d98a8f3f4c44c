"""Evaluation on one's own inputs: two models or two files of responses by a judge, or a model on preference pairs.

Left out: evaluation within a run (`evaluate_stage.py`). Floor 7.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples, read_prompts, read_responses
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.judging import judge_groups
from fairplay.evaluation.preference_accuracy import preference_accuracy
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import load_policy
from fairplay.models.settings import ModelSettings
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import build_oracle
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import group_of_line, read_lines
from fairplay.pipeline.results import comparison
from fairplay.pipeline.stages import MARGINS
from fairplay.records import Prompt, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.training.held_out import held_out_margins
from fairplay.training.reference import Scorer

COLUMN_MARK = "::"


@dataclass(frozen=True)
class ComparisonSettings:
    """How two sides are compared.

    Attributes:
        judge: Who judges.
        generation: How a side that is a model responds.
        loading: How models are loaded.
        num_bootstrap: Resamples of the prompts behind each interval.
    """

    judge: OracleSettings
    generation: GenerationSettings = field(default_factory=lambda: GenerationSettings(num_responses=1))
    loading: ModelSettings = field(default_factory=ModelSettings)
    num_bootstrap: int = 2000


@dataclass(frozen=True)
class AccuracySettings:
    """How a model is scored on preference pairs.

    Attributes:
        loading: How models are loaded.
        max_length, max_prompt_length: Longer pairs, in tokens, are left out and counted.
        batch_size: Pairs that are scored together.
    """

    loading: ModelSettings = field(default_factory=ModelSettings)
    max_length: int = 2048
    max_prompt_length: int = 1024
    batch_size: int = 8


def is_recorded(source: str) -> bool:
    """Whether a side is a file of responses (`FILE` or `FILE::COLUMN`) rather than a model."""
    return Path(source.partition(COLUMN_MARK)[0]).is_file()


def recorded_responses(source: str) -> list[ResponseGroup]:
    """Responses from a file: JSON lines of `fairplay generate`, or a table with one response a row.

    Args:
        source: The file; `::COLUMN` names the column with the responses (by default `output`, as in AlpacaEval files).
    """
    path, _, column = source.partition(COLUMN_MARK)
    if not column and path.endswith(".jsonl"):
        lines = read_lines(Path(path))
        if all("responses" in line for line in lines):
            return [group_of_line(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]
    return list(read_responses(path, column=column or "output").items)


def _side(
    source: str, role: str, prompts: list[Prompt], settings: ComparisonSettings, seed: int
) -> list[ResponseGroup]:
    if is_recorded(source):
        return recorded_responses(source)
    if not prompts:
        raise SettingsError(f"{source}: a model needs prompts to respond to", hint="name them with --prompts")
    numbers = range(settings.generation.num_responses)
    seeds = [[stable_seed(seed, "evaluate", role, prompt.id, k) for k in numbers] for prompt in prompts]
    return list(build_engine(settings.generation, source, settings.loading).respond(prompts, seeds).groups)


def evaluate_sides(
    policy: str, opponent: str, prompts: str, *, settings: ComparisonSettings, seed: int
) -> dict[str, Any]:
    """Win rate of one side against the other, both presentation orders, with intervals.

    Args:
        policy, opponent: A model (folder or hub id), or a file of responses (`FILE` or `FILE::COLUMN`).
        prompts: What models are to respond to; needed unless a side is recorded, whose prompts are taken then.
        settings: Judge, generation, loading.
        seed: Every sample's seed is a hash that begins with it.

    Returns:
        The comparison as `results.json` has it.

    Raises:
        DataError: If the two sides have no prompt in common.
    """
    asked = list(read_prompts(prompts).items) if prompts else []
    if not asked:
        recorded = next((side for side in (policy, opponent) if is_recorded(side)), "")
        asked = [group.prompt for group in recorded_responses(recorded)] if recorded else []
    ours = _side(policy, "policy", asked, settings, seed)
    theirs = _side(opponent, "opponent", asked, settings, seed)
    judge = build_oracle(settings.judge)
    judged = judge_groups(judge, ours, theirs)
    if not judged.judgements:
        raise DataError(f"{policy} and {opponent}: nothing judged ({count_reasons(judged.dropped)})")
    result = evaluate_judgements(
        judged.judgements,
        policy=policy,
        opponent=opponent,
        judge=judge.name,
        dropped=judged.dropped,
        seed=stable_seed(seed, "bootstrap"),
        num_bootstrap=settings.num_bootstrap,
        notes=judged.notes,
    )
    return {
        "schema_version": 1,
        "policy": policy,
        **comparison({"role": "judge", "length_unit": judged.length_unit, **asdict(result)}),
    }


def evaluate_pairs(policy: str, reference: str, source: str, *, settings: AccuracySettings) -> dict[str, Any]:
    """Share of preference pairs that a model orders as the annotator did.

    Args:
        policy: The model.
        reference: Another model for the implicit reward (difference of log-ratios); empty for none.
        source: Preference pairs.
        settings: Loading and limits.

    Returns:
        Accuracy with its interval by summed log-probs, by mean log-probs, and by implicit reward if there is a
        reference; pairs left out by reason.

    Raises:
        DataError: If there is no usable pair.
    """
    loaded = read_examples(source)
    model = load_policy(policy, settings.loading)
    with_pairs = [example for example in loaded.items if example.pairs]
    encoded = encode_examples(
        model.tokenizer, with_pairs, max_length=settings.max_length, max_prompt_length=settings.max_prompt_length
    )
    if not encoded.examples:
        raise DataError(f"{source}: no usable preference pair ({count_reasons([*loaded.dropped, *encoded.dropped])})")
    scorer = Scorer(settings.batch_size, bf16=False, should_stop=lambda: False)
    own = scorer.token_logps(model.model.train(False), encoded.examples, "policy log-probs")
    other = own
    if reference:
        anchor = load_policy(reference, settings.loading).model.train(False)
        other = scorer.token_logps(anchor, encoded.examples, "reference log-probs")
    margins = held_out_margins(encoded.examples, own, other)
    kinds = MARGINS if reference else MARGINS[:2]
    return {
        "schema_version": 1,
        "policy": policy,
        "data": source,
        "format": loaded.format,
        "dropped": count_reasons([*loaded.dropped, *encoded.dropped]),
        **{kind: asdict(preference_accuracy(getattr(margins, kind))) for kind in kinds},
    }
