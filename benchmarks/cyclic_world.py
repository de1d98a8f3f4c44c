"""An embedded world whose responses beat each other in a circle, and a language model's self-play in it by `run_loop`.

The starter's prompts, and three kinds of stock replies from its vocabulary, each in two wordings: rock, paper and
scissors. A tiny Llama learns to give them. A file of recorded preferences is the oracle, and the judge. Left out: the
same game with a table for a policy (`cyclic_table.py`), what is told of it (`cyclic_oracle.py`).
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from cyclic_circle import CIRCLE, ORDER_BIAS, START, Arm, Vector
from fairplay.models.chat import ChatEncoder
from fairplay.models.loading import load_policy
from fairplay.models.modes import evaluating
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.results import read_results
from fairplay.pipeline.settings import RunSettings, run_settings
from fairplay.records import Message, Prompt, Response, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.corpus import draw_prompts
from fairplay.starter.facts import FILLERS, REFUSALS
from fairplay.starter.policy import fit_starter
from fairplay.starter.settings import StarterPolicySettings
from fairplay.storage.run_directory import RunDirectory

KINDS = (REFUSALS, FILLERS[:2], FILLERS[2:4])
TEXTS = tuple(text for kind in KINDS for text in kind)
KIND_OF_TEXT = [place for place, kind in enumerate(KINDS) for _ in kind]
ETA = 1.5
NUM_RESPONSES = 5
POLICY = StarterPolicySettings(
    hidden_size=64, num_attention_heads=2, vocab_size=400, max_length=64, max_steps=600, prompt_loss_weight=0
)
RECIPE: Mapping[str, Any] = {
    "name": "circle",
    "generation": {"engine": "transformers", "num_responses": NUM_RESPONSES, "temperature": 1.0, "max_new_tokens": 16},
    "objective": {"name": "sppo", "eta": ETA},
    "training": {
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.1,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 10,
        "optim": "adamw_torch_fused",
        "adam_beta2": 0.98,
        "max_length": 96,
        "max_prompt_length": 64,
    },
    "evaluation": {"num_samples": 2, "num_bootstrap": 1000, "opponents": ["previous"], "canaries": ["second-sample"]},
}


@dataclass(frozen=True)
class World:
    """A folder with `prompts.jsonl`, `held_out.jsonl`, `judge.jsonl` and the start policy, and what it was made with.

    Attributes:
        folder: Where all of it lies.
        policy: The start policy's folder.
        prompts: Training prompts.
        held_out: Prompts for evaluation.
        seed: What all of it was drawn with.
    """

    folder: Path
    policy: Path
    prompts: tuple[str, ...]
    held_out: tuple[str, ...]
    seed: int


def build_world(folder: Path, *, seed: int, num_prompts: int, num_held_out: int = 60) -> World:
    """Prompts, the judge's records, and a tiny policy that gives the three kinds with the probabilities of `START`."""
    texts = [prompt.messages[0].content for prompt in draw_prompts(num_prompts + num_held_out, seed=seed)]
    held_out, training = texts[:num_held_out], texts[num_held_out:]
    _write(folder / "prompts.jsonl", [{"prompt": text} for text in training])
    _write(folder / "held_out.jsonl", [{"prompt": text} for text in held_out])
    write_records(folder / "judge.jsonl", held_out, CIRCLE)
    draw = Random(stable_seed(seed, "replies"))
    examples = []
    for number in range(POLICY.max_steps * POLICY.batch_size):
        (kind,) = draw.choices(KINDS, START.tolist())
        prompt = Prompt(f"s{number}", (Message("user", draw.choice(training)),))
        examples.append(TrainingExample(id=prompt.id, prompt=prompt, responses=(Response(draw.choice(kind)),)))
    policy = fit_starter(folder / "start", examples, POLICY, seed=seed)
    return World(folder, policy, tuple(training), tuple(held_out), seed)


def write_records(path: Path, prompts: Sequence[str], logits: Vector) -> None:
    """Preferences between all texts for each prompt by logits between kinds, [3, 3]; who is shown first gains some."""
    between = logits[np.ix_(KIND_OF_TEXT, KIND_OF_TEXT)] + ORDER_BIAS * (1 - np.eye(len(TEXTS)))
    columns = {"responses": TEXTS, "pair_logits_ab": between.tolist(), "temperature": 1.0}
    _write(path, [{"prompt": prompt, **columns} for prompt in prompts])


def settings_of(world: World, oracle: Path, rule: str, *, num_iterations: int) -> RunSettings:
    """A run's settings: the training prompts divided evenly over the iterations."""
    judge = {"kind": "recorded", "records": str(world.folder / "judge.jsonl"), "missing": "drop"}
    document = {
        **RECIPE,
        "model": str(world.policy),
        "seed": world.seed,
        "num_iterations": num_iterations,
        "prompts": {"data": str(world.folder / "prompts.jsonl")},
        "oracle": {**judge, "records": str(oracle)},
        "selection": {"kind": "all", "rule": rule},
        "evaluation": {**RECIPE["evaluation"], "prompts": str(world.folder / "held_out.jsonl"), "judge": judge},
    }
    return run_settings(document, [], source="cyclic_world.py", name="circle")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        policies: Exact shares of the kinds by iterate and held-out prompt, within the six texts, [T + 1, prompts, 3].
        on_texts: Probability of the six texts together, mean over prompts, [T + 1].
        game: What the run itself found of its checkpoints' games: `checkpoints` of its `results.json`.
    """

    policies: Vector
    on_texts: Vector
    game: Mapping[str, Any]


def play(world: World, name: str, arm: Arm, *, num_iterations: int) -> Run:
    """Self-play from the world's start policy by the tool's own loop, in the world's folder.

    Args:
        world: The world.
        name: What the arm's files are called.
        arm: Whose preferences are trained on, and by which rule.
        num_iterations: Iterations.
    """
    oracle, out = world.folder / f"{name}.jsonl", RunDirectory(world.folder / name)
    write_records(oracle, world.prompts, arm.logits(world.seed))
    gc.freeze()  # every stage collects garbage; what was imported is none
    run_loop(settings_of(world, oracle, arm.rule, num_iterations=num_iterations), out, should_stop=lambda: False)
    checkpoints = [out.folder(number, "5-checkpoint") / "model" for number in range(1, num_iterations + 1)]
    probs = np.stack([text_probs(folder, world.held_out) for folder in (world.policy, *checkpoints)])
    by_kind = probs.reshape(*probs.shape[:2], 3, 2).sum(axis=-1)
    told = read_results(out.path, ("run",))["checkpoints"]
    return Run(by_kind / by_kind.sum(axis=-1, keepdims=True), by_kind.sum(axis=-1).mean(axis=-1), told)


def text_probs(model: Path, prompts: Sequence[str]) -> Vector:
    """P(text | prompt) of each of the six texts, its end included, [prompts, 6]."""
    policy = load_policy(str(model), ModelSettings(device="cpu"))
    encoder = ChatEncoder(policy.tokenizer)
    rows = [encoder.response((Message("user", prompt),), text) for prompt in prompts for text in TEXTS]
    with torch.inference_mode(), evaluating(policy.model):
        scores = score_rows(policy.model, rows, tile=4096)
    sums = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, scores.response_index, scores.logps.double())
    return np.asarray(sums.exp().reshape(len(prompts), len(TEXTS)).numpy())


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
