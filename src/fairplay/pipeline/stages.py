"""The stages of an iteration up to the training examples: each fills one folder from finished folders and settings.

Left out: training (`checkpoint_stage.py`), evaluation (`evaluate_stage.py`) and their order (`loop.py`). Floor 7.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples, read_prompts
from fairplay.errors import DataError
from fairplay.generation.settings import decisive_settings
from fairplay.models.settings import ModelSettings
from fairplay.objectives.table import build_objective
from fairplay.oracles.preference_work import TEMPERATURE, PreferenceWork, facts_of
from fairplay.oracles.table import build_oracle
from fairplay.pipeline.context import (
    EXAMPLES,
    PREFERENCES,
    PROMPTS,
    RESPONSES,
    RunContext,
    count_reasons,
    free_memory,
    generate_parts,
)
from fairplay.pipeline.settings import RunSettings, split_objective
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.selection import select_examples, select_given
from fairplay.preferences.settings import GIVEN
from fairplay.preferences.win_matrix import orders_read
from fairplay.records import Dropped, PreferenceGroup, Prompt, ResponseGroup, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import read_dropped, read_parts, run_sharded
from fairplay.storage.tables import read_records, write_records
from fairplay.wording import reasons

logger = logging.getLogger(__name__)

EXAMPLES_NAME, HELD_OUT_NAME = "examples.parquet", "held_out.parquet"


def prompt_text(prompt: Prompt) -> str:
    """What makes two prompts the same: roles and contents of all messages."""
    return json.dumps([[message.role, message.content] for message in prompt.messages])


def training_prompts(context: RunContext) -> tuple[list[Prompt], list[Dropped]]:
    """All prompts that the run may train on, in the order drawn for its seed; no duplicates, none that is held out."""
    settings = context.settings
    loaded = read_prompts(settings.prompts.data)
    held_out = {prompt_text(prompt) for prompt in read_prompts(settings.evaluation.prompts).items}
    seen: set[str] = set()
    kept, dropped = [], list(loaded.dropped)
    for prompt in loaded.items:
        text = prompt_text(prompt)
        if text in held_out:
            dropped.append(Dropped(prompt.id, "held out for evaluation"))
        elif text in seen:
            dropped.append(Dropped(prompt.id, "the same prompt twice"))
        else:
            seen.add(text)
            kept.append(prompt)
    return sorted(kept, key=lambda prompt: (stable_seed(settings.seed, "prompts", prompt.id), prompt.id)), dropped


def given_responses(source: str) -> dict[str, str]:
    """`prompt_text` -> the response that the data have for it: the chosen one of a pair, the first of several.

    Raises:
        DataError: If the data are prompts alone.
    """
    found: dict[str, str] = {}
    for example in read_examples(source).items:
        index = example.pairs[0][0] if example.pairs else 0
        found.setdefault(prompt_text(example.prompt), example.responses[index].text)
    return found


def prompts_per_iteration(settings: RunSettings, num_usable: int) -> int:
    """How many prompts each iteration gets.

    Raises:
        DataError: If there are too few for all iterations.
    """
    share = settings.prompts.num_per_iteration or num_usable // settings.num_iterations
    if share < 1 or share * settings.num_iterations > num_usable:
        raise DataError(
            f"{settings.prompts.data}: {num_usable} usable prompts, "
            f"too few for {settings.num_iterations} iterations of {max(share, 1)}",
            hint="lower prompts.num_per_iteration or num_iterations, or bring more prompts",
        )
    return share


def prompts_stage(context: RunContext, iteration: int) -> Manifest:
    """Draw the iteration's own prompts; no other iteration gets any of them."""
    settings = context.settings
    number, count = settings.prompts.num_per_iteration, settings.num_iterations

    def fill(folder: Path) -> StageOutcome:
        prompts, dropped = training_prompts(context)
        share = prompts_per_iteration(settings, len(prompts))
        chosen = prompts[(iteration - 1) * share : iteration * share]
        write_records(folder / "prompts.parquet", chosen, Prompt)
        return StageOutcome(len(prompts) + len(dropped), len(chosen), count_reasons(dropped))

    data = {
        "data": context.data_digest(settings.prompts.data),
        "held_out": context.data_digest(settings.evaluation.prompts),
    }
    decisive = {"seed": settings.seed, "num_per_iteration": number, "num_iterations": count if number == 0 else 0}
    places = {"data": settings.prompts.data, "held_out": settings.evaluation.prompts}
    return context.run.run_stage(Stage(PROMPTS, iteration, decisive, data, places), fill)


def responses_stage(context: RunContext, iteration: int) -> Manifest:
    """Let the previous iterate write K responses to every prompt."""
    settings = context.settings
    folder_in = context.run.folder(iteration, PROMPTS)

    def fill(folder: Path) -> StageOutcome:
        prompts = read_records(folder_in / "prompts.parquet", Prompt)
        generate_parts(
            context,
            folder,
            prompts,
            policy=context.policy(iteration - 1),
            num_responses=settings.generation.num_responses,
            parts=("responses", iteration),
        )
        groups, dropped = read_parts(folder, ResponseGroup), read_dropped(folder)
        responses = [response for group in groups for response in group.responses]
        cut = sum(response.finish_reason == "length" for response in responses)
        tokens = sum(len(response.token_ids) for response in responses)
        results = {
            "num_responses": len(responses),
            "num_cut_at_length": cut,
            "sampling_mismatch": sampling_figures(context.policy(iteration - 1), groups, settings.loading),
        }
        return StageOutcome(len(prompts), len(groups), count_reasons(dropped), results, tokens)

    decisive = {
        "seed": settings.seed,
        "shard_size": settings.shard_size,
        "generation": decisive_settings(settings.generation),
        "loading": settings_document(settings.loading),
    }
    inputs = {"prompts": context.stage_content(iteration, PROMPTS), "policy": context.policy_digest(iteration - 1)}
    return context.run.run_stage(Stage(RESPONSES, iteration, decisive, inputs), fill)


def sampling_figures(policy: str, groups: Sequence[ResponseGroup], loading: ModelSettings) -> dict[str, float]:
    """The engine's log-probs of its samples against the trainer's; empty where the engine told none."""
    if not any(response.logps for group in groups for response in group.responses):
        return {}
    from fairplay.generation.agreement import sampling_mismatch
    from fairplay.models.loading import load_policy

    figures = asdict(sampling_mismatch(load_policy(policy, loading), groups))
    free_memory()
    return figures


def preferences_stage(context: RunContext, iteration: int) -> Manifest:
    """Let the oracle compare every pair of responses of a prompt."""
    settings = context.settings
    folder_in = context.run.folder(iteration, RESPONSES)

    def fill(folder: Path) -> StageOutcome:
        groups = read_parts(folder_in, ResponseGroup)
        facts = run_sharded(
            folder,
            groups,
            PreferenceWork(context.oracle),
            PreferenceGroup,
            executor=context.executor,
            shard_size=settings.shard_size,
            description=f"iteration {iteration}: preferences",
            should_stop=context.should_stop,
        )
        temperature = (facts or facts_of(build_oracle(context.oracle)))[TEMPERATURE]
        free_memory()
        compared = read_parts(folder, PreferenceGroup)
        audit = audit_preferences(compared, temperature=temperature)
        pairs = sum(int(orders_read(group).sum()) - len(group.pair_logits) for group in compared)
        results = {"temperature": temperature, "num_ordered_pairs": pairs, "audit": audit}
        return StageOutcome(len(groups), len(compared), count_reasons(read_dropped(folder)), results)

    oracle_settings, inputs = context.oracle_inputs(settings.oracle, "oracle")
    decisive = {"oracle": oracle_settings, "shard_size": settings.shard_size}
    inputs = {"responses": context.stage_content(iteration, RESPONSES), **inputs}
    return context.run.run_stage(Stage(PREFERENCES, iteration, decisive, inputs), fill)


def examples_stage(context: RunContext, iteration: int) -> Manifest:
    """Turn preferences into training examples."""
    settings = context.settings
    folder_in = context.run.folder(iteration, PREFERENCES)

    def fill(folder: Path) -> StageOutcome:
        groups = read_parts(folder_in, PreferenceGroup)
        temperature = float(preferences.results["temperature"])
        seed = stable_seed(settings.seed, "selection", iteration)
        if settings.selection.kind == GIVEN:
            texts = given_responses(settings.prompts.data)
            asked = [(group.group.prompt.id, texts.get(prompt_text(group.group.prompt))) for group in groups]
            given = {prompt_id: text for prompt_id, text in asked if text is not None}
            selection = select_given(groups, given, seed=seed)
        else:
            selection = select_examples(
                groups, settings.selection, temperature=temperature, seed=seed, with_scores=with_scores
            )
        dropped = count_reasons(selection.dropped)
        if not selection.examples:
            raise DataError(
                f"iteration {iteration}: no preference signal, all {len(groups)} prompts were left out "
                f"({reasons(dropped)})",
                hint="look at 3-preferences: is the oracle the right one? raise generation.temperature for variety",
            )
        write_records(folder / EXAMPLES_NAME, list(selection.examples), TrainingExample)
        return StageOutcome(len(groups), len(selection.examples), dropped)

    with_scores = "scores" in build_objective(*split_objective(settings.objective)).needs
    preferences = context.run.manifest(iteration, PREFERENCES)
    decisive: dict[str, Any] = {"seed": settings.seed, "selection": settings_document(settings.selection)}
    if with_scores:
        decisive["with_scores"] = True
    inputs = {"preferences": preferences.content}
    if settings.selection.kind == GIVEN:
        inputs["data"] = context.data_digest(settings.prompts.data)
    manifest = context.run.run_stage(Stage(EXAMPLES, iteration, decisive, inputs), fill)
    warn_of_losses(iteration, manifest.num_in, manifest.num_out, manifest.dropped)
    return manifest


def warn_of_losses(iteration: int, num_prompts: int, num_examples: int, dropped: Mapping[str, int]) -> None:
    """Say so where selection left out more than it kept: such a training learns from next to nothing."""
    lost = sum(dropped.values())
    if lost > num_examples:
        text = f"{num_examples} examples of {num_prompts} prompts: selection left out {lost} ({reasons(dropped)})"
        logger.warning("%s", f"iteration {iteration} trains on {text}")  # of each iteration, however many there are
