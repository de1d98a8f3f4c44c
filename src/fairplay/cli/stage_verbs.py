"""`generate`, `rank`, `select`, `train`, `evaluate`: one stage each, on one's own inputs.

Left out: the whole loop (`loop_verbs.py`). Floor 8; torch is imported when a verb runs.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, NPROC, SET, Format
from fairplay.cli.printing import print_json, print_record
from fairplay.cli.stage_pages import accuracy_page, comparison_page, ranking_page, training_page
from fairplay.cli.workers import are_wanted, run_workers
from fairplay.cluster.executors import open_executor
from fairplay.cluster.settings import ClusterSettings
from fairplay.errors import SettingsError
from fairplay.generation.settings import GenerationSettings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.settings import OracleSettings
from fairplay.pipeline.signals import stop_on_signals
from fairplay.preferences.settings import SelectionSettings
from fairplay.storage.settings_file import apply_overrides, build_settings


def register(app: typer.Typer) -> None:
    """Put these verbs on the command line."""
    for verb in (generate, rank, select, train, evaluate):
        app.command()(verb)


@dataclass(frozen=True)
class _GenerateSettings:
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    loading: ModelSettings = field(default_factory=ModelSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


@dataclass(frozen=True)
class _BestOfSettings:
    oracle: OracleSettings
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    loading: ModelSettings = field(default_factory=ModelSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


@dataclass(frozen=True)
class _WinRateSettings:
    rule: str = SelectionSettings().rule
    opponents: str = SelectionSettings().opponents

    def __post_init__(self) -> None:
        SelectionSettings(rule=self.rule, opponents=self.opponents)


@dataclass(frozen=True)
class _RankSettings:
    oracle: OracleSettings
    selection: _WinRateSettings = field(default_factory=_WinRateSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


@dataclass(frozen=True)
class _SelectSettings:
    selection: SelectionSettings = field(default_factory=SelectionSettings)


def generate(
    model: str = typer.Option(..., "--model", help="The policy: a folder or a hub id."),
    source: str = typer.Option(..., "--input", help="Prompts: a file, a folder or a hub id."),
    destination: Path = typer.Option(..., "--output", help="Where the responses go, as JSON lines."),
    best_of: int = typer.Option(
        0, "--best-of", min=0, help="Of so many responses keep the one that an oracle prefers (--set oracle.kind=...)."
    ),
    seed: int = typer.Option(0, "--seed", help="Every sample's seed is a hash that begins with it."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """K responses of a policy to every prompt (--set generation.num_responses=5 and so on); run again to resume."""
    if best_of:
        _tell(_best_of(model, source, destination, best_of, seed, overrides), output)
        return
    settings = build_settings(_GenerateSettings, apply_overrides({}, overrides), "--set")
    with stop_on_signals() as should_stop, resumable(), open_executor(settings.cluster) as executor:
        from fairplay.pipeline.single_stages import generate_file

        done = generate_file(
            model,
            source,
            destination,
            generation=settings.generation,
            loading=settings.loading,
            seed=seed,
            should_stop=should_stop,
            executor=executor,
        )
    _tell(done, output)


def _best_of(
    model: str, source: str, destination: Path, best_of: int, seed: int, overrides: list[str]
) -> dict[str, Any]:
    document = apply_overrides({}, overrides)
    if "num_responses" in document.get("generation", {}):
        raise SettingsError("generation.num_responses: --best-of says how many there are")
    settings = build_settings(_BestOfSettings, document, "--set")
    with stop_on_signals() as should_stop, resumable(), open_executor(settings.cluster) as executor:
        from fairplay.pipeline.best_of import best_of_file

        return best_of_file(
            model,
            source,
            destination,
            oracle=settings.oracle,
            generation=replace(settings.generation, num_responses=best_of),
            loading=settings.loading,
            seed=seed,
            should_stop=should_stop,
            executor=executor,
        )


def rank(
    source: Path = typer.Option(..., "--input", help='JSON lines: {"prompt": ..., "responses": [...]}.'),
    destination: Path = typer.Option(
        ..., "--output", help="The same lines with pair logits, probabilities, win rates."
    ),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Compare every ordered pair of responses by an oracle (--set oracle.kind=... and so on); run again to resume."""
    settings = build_settings(_RankSettings, apply_overrides({}, overrides), "--set")
    with stop_on_signals() as should_stop, resumable(), open_executor(settings.cluster) as executor:
        from fairplay.pipeline.single_stages import rank_file

        done = rank_file(
            source,
            destination,
            oracle=settings.oracle,
            rule=settings.selection.rule,
            opponents=settings.selection.opponents,
            should_stop=should_stop,
            executor=executor,
        )
    _tell(done, output, ranking_page)


def select(
    source: Path = typer.Option(..., "--input", help="JSON lines as `fairplay rank` writes them."),
    destination: Path = typer.Option(..., "--output", help="Training examples, as JSON lines."),
    seed: int = typer.Option(0, "--seed", help="For selections that draw."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Turn ranked responses into training examples (--set selection.kind=best-worst and so on)."""
    settings = build_settings(_SelectSettings, apply_overrides({}, overrides), "--set")
    from fairplay.pipeline.single_stages import select_file

    _tell(select_file(source, destination, selection=settings.selection, seed=seed), output)


def train(
    recipe: Path = typer.Argument(help="A recipe with model, objective and training; a self-play recipe will do too."),
    data: str = typer.Option(..., "--data", help="Training data: a file, a folder or a hub id."),
    held_out: str = typer.Option("", "--held-out", help="Other data to measure preference accuracy on."),
    num_held_out: int = typer.Option(0, "--num-held-out", min=0, help="Or: so many examples of --data, drawn by seed."),
    out: Path | None = typer.Option(
        None, "--out", help="The run's folder, by default runs/<name>; run again to resume."
    ),
    seed: int | None = typer.Option(None, "--seed", help="Every random draw comes from it."),
    overrides: list[str] = SET,
    fork: bool = typer.Option(False, "--fork", help="Start a new run beside --out that keeps what still fits."),
    nproc_per_node: int = NPROC,
    output: Format = FORMAT,
) -> None:
    """Train with any objective on existing preference data; run again to resume."""
    if are_wanted(nproc_per_node):
        raise typer.Exit(run_workers(sys.argv[1:], nproc_per_node))
    from fairplay.pipeline.offline import OfflineData, check_settings, train_offline
    from fairplay.pipeline.settings import read_train_settings
    from fairplay.storage.run_directory import RunDirectory

    settings = read_train_settings(recipe, [*overrides, *([] if seed is None else [f"seed={seed}"])])
    check_settings(settings)
    with stop_on_signals() as should_stop, resumable() as resume:
        run = RunDirectory(out or Path("runs") / settings.name)
        done = train_offline(
            settings,
            OfflineData(data, held_out, num_held_out),
            resume.fork(run) if fork else run,
            should_stop=should_stop,
        )
    _tell(done, output, training_page)


def evaluate(
    policy: str = typer.Option(
        ..., "--policy", help="A model (folder or hub id), or a file of responses: FILE[::COLUMN]."
    ),
    opponent: str = typer.Option("", "--opponent", help="The same for the other side of a comparison."),
    prompts: str = typer.Option("", "--prompts", help="What models are to respond to, unless a side is recorded."),
    data: str = typer.Option("", "--data", help="Instead of an opponent: preference pairs, to measure accuracy on."),
    reference: str = typer.Option("", "--reference", help="With --data: the reference model of the implicit reward."),
    out: Path | None = typer.Option(
        None, "--out", help="Folder of responses, verdicts and results, by default runs/evaluate-<hash>; resumes there."
    ),
    seed: int = typer.Option(0, "--seed", help="Every sample's seed is a hash that begins with it."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Win rate of a policy against an opponent by a judge (--set judge.kind=...), or accuracy on preference pairs."""
    if bool(opponent) == bool(data):
        raise SettingsError("evaluate: name either --opponent (a comparison) or --data (preference pairs)")
    if opponent and reference:
        raise SettingsError("evaluate: --reference goes with --data, a comparison has none")
    from fairplay.pipeline.pair_accuracy import AccuracySettings, evaluate_pairs
    from fairplay.pipeline.single_evaluation import ComparisonSettings, Task, evaluate_sides

    document = apply_overrides({}, overrides)
    with stop_on_signals() as should_stop, resumable():
        if data:
            accuracy = build_settings(AccuracySettings, document, "--set")
            done, folder = evaluate_pairs(policy, reference, data, accuracy, out, should_stop=should_stop)
        else:
            settings = build_settings(ComparisonSettings, document, "--set")
            task = Task(policy, opponent, prompts, seed)
            done, folder = evaluate_sides(task, settings, out, should_stop=should_stop)
    _tell(done, output, accuracy_page if data else comparison_page)
    if output is Format.table:
        print(f"written to {folder}")


def _tell(done: dict[str, Any], output: Format, page: Callable[[Mapping[str, Any]], None] = print_record) -> None:
    if output is Format.json:
        print_json(done)
    else:
        page(done)
