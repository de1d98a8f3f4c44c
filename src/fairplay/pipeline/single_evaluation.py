"""Evaluation on one's own inputs: two models or two files of responses by a judge, or a model on preference pairs.

Left out: evaluation within a run (`evaluate_stage.py`). Floor 7.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples, read_prompts, read_responses
from fairplay.data.rows import READERS
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.judging import Judged, judge_groups
from fairplay.evaluation.preference_accuracy import preference_accuracy
from fairplay.evaluation.settings import MIN_BOOTSTRAP, check_judge
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import load_policy
from fairplay.models.settings import ModelSettings
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import build_oracle
from fairplay.pipeline.checkpoint_stage import MARGINS
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import group_of_line, read_lines
from fairplay.pipeline.results import comparison, titled, with_intervals
from fairplay.records import Dropped, Prompt, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.training.held_out import held_out_margins
from fairplay.training.plan import longest_row
from fairplay.training.reading import Reading
from fairplay.training.reference import Scorer

COLUMN_MARK = "::"
NO_PAIRS = "no pairs"


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

    def __post_init__(self) -> None:
        check_judge(self.judge, "judge")
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}")


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

    def __post_init__(self) -> None:
        for name in ("max_length", "max_prompt_length", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)} is less than 1")


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        groups: Its responses by prompt.
        unreadable: Rows of its file that were left out.
        unanswered: Prompts that a model was asked and left out.
    """

    groups: tuple[ResponseGroup, ...]
    unreadable: tuple[Dropped, ...] = ()
    unanswered: tuple[Dropped, ...] = ()


def is_recorded(source: str) -> bool:
    """Whether a side is a file of responses (`FILE` or `FILE::COLUMN`) rather than a model.

    Raises:
        DataError: If it is written like a file, and there is none.
    """
    name, mark, _ = source.partition(COLUMN_MARK)
    path = Path(name).expanduser()
    if path.is_file():
        return True
    if mark or (name.endswith(tuple(READERS)) and not path.is_dir()):
        raise DataError(f"{name}: no such file", hint="a side is a model (folder or hub id), or FILE[::COLUMN]")
    return False


def recorded_responses(source: str) -> Side:
    """Responses from a file: JSON lines of `fairplay generate`, or a table with one response a row.

    Args:
        source: The file; `::COLUMN` names the column with the responses (by default `output`, as in AlpacaEval files).
    """
    path, _, column = source.partition(COLUMN_MARK)
    if not column and path.endswith(".jsonl"):
        lines = read_lines(Path(path).expanduser())
        if all("responses" in line.columns for line in lines):
            return Side(tuple(group_of_line(line) for line in lines))
    loaded = read_responses(path, column=column or "output")
    return Side(loaded.items, unreadable=loaded.dropped)


def _side(source: str, role: str, prompts: Sequence[Prompt], settings: ComparisonSettings, seed: int) -> Side:
    if is_recorded(source):
        return recorded_responses(source)
    if not prompts:
        raise SettingsError(f"{source}: a model needs prompts to respond to", hint="name them with --prompts")
    numbers = range(settings.generation.num_responses)
    seeds = [[stable_seed(seed, "evaluate", role, prompt.id, k) for k in numbers] for prompt in prompts]
    engine = build_engine(settings.generation, source, settings.loading)
    generated = engine.respond(prompts, seeds)
    engine.close()
    return Side(generated.groups, unanswered=generated.dropped)


def not_judged(judged: Judged, policy: Side, opponent: Side, *, num_samples: int) -> list[Dropped]:
    """Every judgement that was asked for and is missing, with the reason for which a model left its prompt out.

    The judging sees only what responses there are, so it does not count a prompt that neither side responded to.
    """
    reasons = {item.id: item.reason for side in (policy, opponent) for item in side.unanswered}
    present = {group.prompt.id for side in (policy, opponent) for group in side.groups}
    nowhere = [Dropped(prompt_id, reason) for prompt_id, reason in reasons.items() if prompt_id not in present]
    named = [Dropped(item.id, reasons.get(item.id, item.reason)) for item in judged.dropped]
    return [*named, *nowhere * num_samples]


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
        The comparison as `results.json` has it (its `dropped` counts missing judgements); and `left_out`: what was
        left out when prompts and sides were read or generated, by reason.

    Raises:
        DataError: If a side is a file that is not there, or the two sides have no prompt in common.
    """
    recorded = [side for side in (policy, opponent) if is_recorded(side)]
    read = read_prompts(prompts) if prompts else None
    if read is not None:
        asked: Sequence[Prompt] = read.items
    else:
        asked = [group.prompt for group in recorded_responses(recorded[0]).groups] if recorded else []
    ours = _side(policy, "policy", asked, settings, seed)
    theirs = _side(opponent, "opponent", asked, settings, seed)
    judge = build_oracle(settings.judge)
    judged = judge_groups(judge, ours.groups, theirs.groups)
    missing = not_judged(judged, ours, theirs, num_samples=settings.generation.num_responses)
    if not judged.judgements:
        raise DataError(f"{policy} and {opponent}: nothing judged ({count_reasons(missing)})")
    result = evaluate_judgements(
        judged.judgements,
        policy=policy,
        opponent=opponent,
        judge=judge.name,
        dropped=missing,
        seed=stable_seed(seed, "bootstrap"),
        num_bootstrap=settings.num_bootstrap,
        notes=judged.notes,
    )
    left_out = {
        "prompts": read.dropped if read else (),
        "policy": (*ours.unreadable, *ours.unanswered),
        "opponent": (*theirs.unreadable, *theirs.unanswered),
    }
    compared = comparison({"role": "judge", "length_unit": judged.length_unit, **asdict(result)})
    counts = {name: count_reasons(dropped) for name, dropped in left_out.items()}
    return titled("comparison", {"policy": policy, **compared, "left_out": counts})


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
    for name in (policy, reference):
        if name and is_recorded(name):
            raise DataError(f"{name}: is a file, not a model folder", hint="--data measures models only")
    loaded = read_examples(source)
    model = load_policy(policy, settings.loading)
    with_pairs = [example for example in loaded.items if example.pairs]
    unpaired = [Dropped(example.id, NO_PAIRS) for example in loaded.items if not example.pairs]
    encoded = encode_examples(
        model.tokenizer, with_pairs, max_length=settings.max_length, max_prompt_length=settings.max_prompt_length
    )
    dropped = count_reasons([*loaded.dropped, *unpaired, *encoded.dropped])
    if not encoded.examples:
        raise DataError(f"{source}: no usable preference pair ({dropped})")
    reading = Reading(longest=max(map(longest_row, encoded.examples)), bf16=False)
    scorer = Scorer(settings.batch_size, reading, should_stop=lambda: False)
    own = scorer.token_logps(model.model.train(False), encoded.examples, "policy log-probs")
    other = own
    if reference:
        anchor = load_policy(reference, settings.loading).model.train(False)
        other = scorer.token_logps(anchor, encoded.examples, "reference log-probs")
    margins = held_out_margins(encoded.examples, own, other)
    kinds = MARGINS if reference else MARGINS[:2]
    document = {
        "policy": policy,
        "data": source,
        "format": loaded.format,
        "num_in": len(loaded.items) + len(loaded.dropped),
        "num_out": len(encoded.examples),
        "dropped": dropped,
        **{kind: with_intervals(asdict(preference_accuracy(getattr(margins, kind)))) for kind in kinds},
    }
    return titled("accuracy", document)
