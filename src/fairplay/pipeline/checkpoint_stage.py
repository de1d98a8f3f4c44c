"""Training as a stage: from the examples of an iteration's folder to a checkpoint, in the loop and offline.

Left out: the training itself (`training/`), where the examples come from (`stages.py`, `offline.py`). Floor 7.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fairplay.evaluation.paired_tests import holm
from fairplay.evaluation.preference_accuracy import compare_preference_accuracy
from fairplay.objectives.table import build_objective
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES, RunContext, count_reasons, free_memory
from fairplay.pipeline.margins import AFTER_NAME, BEFORE_NAME, MARGINS, PairMargin, pair_margins
from fairplay.pipeline.settings import RunSettings, TrainRunSettings, split_objective
from fairplay.pipeline.stages import EXAMPLES_NAME, HELD_OUT_NAME
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import settings_document, without
from fairplay.storage.tables import read_records, write_records
from fairplay.training.frozen import frozen_models, reads
from fairplay.training.summary import HeldOutPairs

# These hold times or paths, so their bytes differ between equal runs.
TRAINING_LOGS = (
    "metrics.jsonl",
    "summary.json",
    "processes.json",
    "reference_logps.safetensors",
    "tensorboard",
    "wandb_id.txt",
)


def checkpoint_stage(context: RunContext, iteration: int) -> Manifest:
    """Train the previous iterate on the examples; the folder `model/` is the next policy."""
    settings = context.settings
    reference = 0 if settings.reference == "start" else iteration - 1
    return train_stage(
        context.run,
        iteration,
        replace(
            context.train_settings(),
            training=settings.training_of(iteration),
            model=context.policy(iteration - 1),
            anchor=anchor_source(settings),
        ),
        reference=context.policy(reference),
        inputs={
            "examples": context.stage_content(iteration, EXAMPLES),
            "policy": context.policy_digest(iteration - 1),
            "reference": context.policy_digest(reference),
        },
        digest=context.digest,
        should_stop=context.should_stop,
    )


def anchor_source(settings: TrainRunSettings | RunSettings) -> str:
    """The anchor model: the one that is named, or else the policy that all begins with if the objective reads one."""
    objective = build_objective(*split_objective(settings.objective))
    return settings.anchor or (settings.model if reads(objective, "anchor_logratios") else "")


def train_stage(
    run: RunDirectory,
    iteration: int,
    settings: TrainRunSettings,
    *,
    reference: str,
    inputs: Mapping[str, str],
    digest: Callable[[str], str],
    should_stop: Callable[[], bool],
) -> Manifest:
    """Train on the examples of the iteration's folder; held-out pairs beside them are scored before and after.

    Args:
        run: The run's folder.
        iteration: Whose examples, and where the checkpoint goes.
        settings: The policy to start from, the objective with the other models that it reads, and how to train.
        reference: The reference policy.
        inputs: Name -> content hash of examples, policy and reference.
        digest: Content hash of a model.
        should_stop: Asked after every optimiser step.
    """
    from fairplay.training.crew import on_all_ranks
    from fairplay.training.loop import train

    objective = build_objective(*split_objective(settings.objective))
    frozen = frozen_models(objective, anchor=settings.anchor, importance=settings.importance)
    examples_folder = run.folder(iteration, EXAMPLES)

    def fill(folder: Path) -> StageOutcome:
        held_out = examples_folder / HELD_OUT_NAME
        arguments = {
            "model": settings.model,
            "reference": reference,
            "examples": read_records(examples_folder / EXAMPLES_NAME, TrainingExample),
            "anchor": settings.anchor,
            "importance": settings.importance,
            "eval_examples": read_records(held_out, TrainingExample) if held_out.exists() else (),
            "objective": objective,
            "settings": settings.training,
            "model_settings": settings.loading,
            "output": folder / "model",
            "work": folder,
            "seed": stable_seed(settings.seed, "training", iteration),
        }
        summary = on_all_ranks(train, arguments, own={"should_stop": should_stop})
        free_memory()
        dropped = count_reasons(summary.dropped)
        pairs = summary.held_out
        for name, margins in ((BEFORE_NAME, pairs.before), (AFTER_NAME, pairs.after)) if pairs.example_ids else ():
            write_records(folder / name, pair_margins(pairs.example_ids, margins), PairMargin)
        results = {
            "steps": summary.steps,
            "first_loss": summary.first_loss,
            "last_loss": summary.last_loss,
            "held_out": held_out_results(pairs, settings.seed),
        }
        num_in = summary.examples + len(summary.dropped)
        return StageOutcome(num_in, summary.examples, dropped, results, summary.tokens, logs=TRAINING_LOGS)

    moves_no_byte = ("report_to", "save_steps", "dp_replicate_size")
    training = {key: value for key, value in settings_document(settings.training).items() if key not in moves_no_byte}
    decisive = {
        "seed": settings.seed,
        "objective": settings.objective,
        "training": training,
        "loading": settings_document(settings.loading),
    }
    if settings.importance.positive:
        decisive["importance"] = without(settings_document(settings.importance), {"positive", "negative"})
    every_input = {**inputs, **{role: digest(source) for role, source in frozen.items()}}
    return run.run_stage(Stage(CHECKPOINT, iteration, decisive, every_input), fill)


def held_out_results(held_out: HeldOutPairs, seed: int) -> dict[str, Any]:
    """Preference accuracy on held-out pairs before and after training, by each kind of margin; empty without pairs.

    The kinds are one family of comparisons: each change has its p-value corrected by Holm beside its own.
    """
    if not held_out.example_ids:
        return {}
    compared = {
        kind: asdict(
            compare_preference_accuracy(
                getattr(held_out.before, kind),
                getattr(held_out.after, kind),
                prompts=held_out.example_ids,
                seed=stable_seed(seed, "held-out pairs"),
            )
        )
        for kind in MARGINS
    }
    for kind, p_value in holm({kind: compared[kind]["change"]["p_value"] for kind in MARGINS}).items():
        compared[kind]["change"]["p_value_holm"] = p_value
    return {"num_pairs": len(held_out.example_ids), "dropped": count_reasons(held_out.dropped), **compared}
