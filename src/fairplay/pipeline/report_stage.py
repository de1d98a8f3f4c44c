"""Gather what the report shows from the finished stages, and write its page.

Left out: how it looks (`reports/`). Floor 7.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairplay.evaluation.length_curve import length_curve
from fairplay.objectives.table import resolved_objective
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, PREFERENCES, RunContext
from fairplay.pipeline.evaluate_stage import held_out_responses, judgements_path, length_of, opponents_of
from fairplay.pipeline.game_stage import STRENGTHS, game_results
from fairplay.pipeline.report_gates import gates_contents
from fairplay.pipeline.report_tables import report_tables
from fairplay.pipeline.results import holm_p_values, run_gates, sampling_mismatch_of
from fairplay.records import (
    CheckpointGame,
    CheckpointStrengths,
    ComparisonStatistics,
    EvaluationResult,
    Interval,
    Judgement,
)
from fairplay.reports.contents import (
    Evaluation,
    HeldOutLengths,
    IterationContents,
    JudgeRole,
    LengthEvidence,
    ReportContents,
    Sample,
    StageAccount,
    Verdict,
)
from fairplay.reports.decision import START
from fairplay.reports.page import write_report
from fairplay.storage.settings_file import dump_yaml, settings_document
from fairplay.storage.tables import read_records

ROLES: tuple[JudgeRole, ...] = ("judge", "oracle")


def _name_of(iterations: Sequence[IterationContents], role: JudgeRole) -> str:
    """Kind and identity of the judge or of the oracle, as its verdicts carry it."""
    return next(item.result.judge for iteration in iterations for item in iteration.evaluations if item.role == role)


def evaluation_result(document: dict[str, Any]) -> EvaluationResult:
    """An evaluation result from its plain data in a manifest."""
    values = {key: value for key, value in document.items() if key not in ("role", "length_unit")}
    for rate in ("win_rate", "lc_win_rate"):
        values[rate] = Interval(**values[rate])
    if values.get("statistics"):
        statistics: dict[str, Any] = {
            name: Interval(**value) if isinstance(value, dict) else value
            for name, value in values["statistics"].items()
        }
        values["statistics"] = ComparisonStatistics(**statistics)
    return EvaluationResult(**{**values, "notes": tuple(values["notes"])})


def _lengths(results: dict[str, Any]) -> HeldOutLengths:
    lengths = tuple(results["lengths"])
    return HeldOutLengths(lengths, results["num_cut_at_length"] / max(len(lengths), 1))


def _metrics(folder: Path) -> tuple[dict[str, float], ...]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return tuple({key: value for key, value in row.items() if value is not None} for row in rows)


def _iteration(context: RunContext, iteration: int) -> IterationContents:
    run = context.run
    results = run.manifest(iteration, EVALUATION).results
    manifests = [manifest for _, manifest in run.manifests() if manifest.iteration == iteration]
    adjusted = holm_p_values(context)
    return IterationContents(
        iteration=iteration,
        evaluations=tuple(
            Evaluation(
                item["role"],
                evaluation_result(item),
                holm_p_value=adjusted.get((iteration, item["opponent"])) if item["role"] == "judge" else None,
            )
            for item in results["evaluations"]
        ),
        held_out=_lengths(results),
        metrics=_metrics(run.folder(iteration, CHECKPOINT)),
        audit=run.manifest(iteration, PREFERENCES).results["audit"],
        stages=tuple(StageAccount(m.stage, m.num_in, m.num_out, m.dropped, m.seconds, m.tokens) for m in manifests),
        sampling=sampling_mismatch_of(context, iteration),
        oracle_gaps={name: Interval(**gap["gap"]) for name, gap in results["oracle_gaps"].items()},
        length_evidence=_length_evidence(context, iteration),
    )


def _length_evidence(context: RunContext, iteration: int) -> tuple[LengthEvidence, ...]:
    if opponents_of(context, iteration).get(START) != 0:
        return ()
    path = judgements_path(context.run.folder(iteration, EVALUATION), START, "judge")
    number = context.settings.evaluation.num_bootstrap
    curve = length_curve(read_records(path, Judgement), seed=context.settings.seed, num_bootstrap=number)
    return (LengthEvidence(tuple((one.gap, one.win_rate) for one in curve.bins), curve.fitted),)


def _checkpoints(context: RunContext) -> tuple[CheckpointGame, ...]:
    found = game_results(context)
    if not found:
        return ()
    found.pop(STRENGTHS, None)
    rates = tuple(tuple(Interval(**one) for one in row) for row in found["win_rates"])
    return (CheckpointGame(**{**found, "names": tuple(found["names"]), "win_rates": rates}),)


def _strengths(context: RunContext) -> tuple[CheckpointStrengths, ...]:
    found = game_results(context).get(STRENGTHS)
    if not found:
        return ()
    values = {
        "names": tuple(found["names"]),
        "strengths": tuple(Interval(**one) for one in found["strengths"]),
        "covariance": tuple(map(tuple, found["covariance"])),
        "lc_win_rates": tuple(tuple(Interval(**one) for one in row) for row in found["lc_win_rates"]),
        "length_slope": Interval(**found["length_slope"]),
    }
    return (CheckpointStrengths(**{**found, **values}),)


def _samples(context: RunContext, iteration: int) -> list[Sample]:
    """Every judged pair of responses of an iterate and its first opponent, with both verdicts."""
    folder = context.run.folder(iteration, EVALUATION)
    name, opponent = next(iter(opponents_of(context, iteration).items()))
    verdicts: dict[tuple[str, int], list[Verdict]] = {}
    for role in ROLES:
        for item in read_records(judgements_path(folder, name, role), Judgement):
            verdict = Verdict(role, item.win_prob_first, item.win_prob_second)
            verdicts.setdefault((item.prompt_id, item.sample), []).append(verdict)
    others = {group.prompt.id: group for group in held_out_responses(context, opponent)}
    samples = []
    for group in held_out_responses(context, iteration):
        for number, response in enumerate(group.responses):
            judged = verdicts.get((group.prompt.id, number))
            if judged:
                other = others[group.prompt.id].responses[number]
                samples.append(
                    Sample(
                        prompt_id=group.prompt.id,
                        iteration=iteration,
                        sample=number,
                        messages=group.prompt.messages,
                        policy=f"iteration {iteration}",
                        policy_text=response.text,
                        policy_length=length_of(response),
                        opponent=f"{name} policy",
                        opponent_text=other.text,
                        opponent_length=length_of(other),
                        verdicts=tuple(judged),
                    )
                )
    return samples


def write_run_report(context: RunContext) -> Path:
    """Write `report/index.html` of a finished run; the same stages give the same page but for wall times.

    Returns:
        The page's path.
    """
    settings = context.settings
    last = settings.num_iterations
    iterations = tuple(_iteration(context, iteration) for iteration in range(1, last + 1))
    contents = ReportContents(
        run=settings.name,
        seed=settings.seed,
        objective=" ".join(
            f"{key}={value}" if key != "name" else str(value)
            for key, value in resolved_objective(settings.objective).items()
        ),
        judge=_name_of(iterations, "judge"),
        oracle=_name_of(iterations, "oracle"),
        settings=dump_yaml(settings_document(settings)),
        start=_lengths(context.run.manifest(0, EVALUATION).results),
        iterations=iterations,
        samples=tuple(_samples(context, last)),
        checkpoints=_checkpoints(context),
        strengths=_strengths(context),
        tables=report_tables(context),
        gates=gates_contents(run_gates(context)),
        length_unit=context.run.manifest(last, EVALUATION).results["evaluations"][0]["length_unit"],
    )
    return write_report(contents, context.run.path / "report")
