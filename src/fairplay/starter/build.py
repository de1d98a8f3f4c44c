"""The embedded world made on the spot: prompts, a start policy, and an oracle that learned from noisy annotators.

Afterwards these are ordinary files and model folders; nothing outside this room knows where they come from. Left out:
the self-play loop, and the judge's use in it (both are the pipeline's). Floor 6.

    settings.yaml  sft.jsonl  prompts.jsonl  held_out_prompts.jsonl  policy/  oracle_pairs.jsonl  oracle/  starter.json

No held-out prompt's text occurs among the other prompts, in the corpus or in the oracle's pairs. Annotated prompts may
be training prompts, as with a reward model of one's own. Each part is finished when it is there; a killed build that is
called again goes on and ends with the same bytes.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fairplay.generation.contract import Engine
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.preferences.shares import share_interval
from fairplay.records import Dropped, Prompt, ResponseGroup, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.annotators import annotate
from fairplay.starter.claim import claim
from fairplay.starter.corpus import draw_prompts, write_corpus, write_response
from fairplay.starter.policy import CPU, train_policy
from fairplay.starter.settings import StarterSettings
from fairplay.starter.tasks import task_of
from fairplay.storage.atomic import write_atomic
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import HERE, Facts, read_parts, run_sharded
from fairplay.training.oracle_pairs import different_pairs, split_pairs
from fairplay.training.oracle_settings import OracleTrainingSettings
from fairplay.training.oracle_training import train_oracle

logger = logging.getLogger(__name__)

SUMMARY_NAME = "starter.json"
WORK_NAME = ".work"
PROMPTS_PER_SHARD = 200
MAX_NEW_TOKENS = 48
"""Of the start policy's samples; a response of the corpus has 45 tokens at most, nearly always fewer than 30."""

SHARE_KEPT_APART = 0.025
"""Of the oracle's pairs, for its temperature; as many again are held out."""


@dataclass(frozen=True)
class Starter:
    """A finished embedded world: its folder, and the figures of its training."""

    folder: Path
    results: Mapping[str, Any]

    @property
    def policy(self) -> Path:
        """The start policy, a Hugging Face folder."""
        return self.folder / "policy"

    @property
    def oracle(self) -> Path:
        """The learned preference model, for an oracle of kind `pair_model`."""
        return self.folder / "oracle"

    @property
    def prompts(self) -> Path:
        """Training prompts."""
        return self.folder / "prompts.jsonl"

    @property
    def held_out_prompts(self) -> Path:
        """Prompts for evaluation."""
        return self.folder / "held_out_prompts.jsonl"

    @property
    def sft(self) -> Path:
        """The raw corpus that the start policy learned from."""
        return self.folder / "sft.jsonl"

    @property
    def oracle_pairs(self) -> Path:
        """The annotators' comparisons that the oracle learned from."""
        return self.folder / "oracle_pairs.jsonl"


def build_starter(
    folder: Path, settings: StarterSettings, *, seed: int, should_stop: Callable[[], bool] = lambda: False
) -> Starter:
    """Make the embedded world, or go on with making it; finished parts are kept.

    Args:
        folder: Where it goes.
        settings: Sizes, steps and counts.
        seed: Decides everything.
        should_stop: Asked at every commit.

    Returns:
        The finished world; at once if it is there already.

    Raises:
        SettingsError: If the folder holds a world of other settings or another seed.
        LockedError: If another process is making it.
        Preempted: If `should_stop` said so.
    """
    with claim(folder, {"seed": seed, **settings_document(settings)}):
        summary = folder / SUMMARY_NAME
        if not summary.is_file():
            results = _build_parts(Starter(folder, {}), settings, seed, should_stop)
            write_atomic(summary, json.dumps(results, indent=1) + "\n")
        shutil.rmtree(folder / WORK_NAME, ignore_errors=True)
    return Starter(folder, json.loads(summary.read_text(encoding="utf-8")))


def _build_parts(
    starter: Starter, settings: StarterSettings, seed: int, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    work = starter.folder / WORK_NAME
    work.mkdir(exist_ok=True)
    held_out, training = _world_prompts(settings, seed)
    excluded = frozenset(_text(prompt) for prompt in held_out)
    corpus = write_corpus(settings.policy.max_steps * settings.policy.batch_size, seed=seed, excluded=excluded)
    _write_rows(starter.held_out_prompts, map(_prompt_row, held_out))
    _write_rows(starter.prompts, map(_prompt_row, training))
    _write_rows(starter.sft, map(_supervised_row, corpus))
    logger.info(
        "%s: training a tiny policy, %d steps (the world is ready in one to three minutes)",
        *(starter.folder, settings.policy.max_steps),
    )
    supervised = train_policy(
        starter.policy, corpus, settings.policy, work=work / "sft", seed=seed, should_stop=should_stop
    )
    logger.info("%s: responses to %d prompts for the annotators", starter.folder, settings.num_annotated_prompts)
    pairs = _annotated_pairs(starter, settings, excluded, seed, should_stop)
    _write_rows(starter.oracle_pairs, map(_pair_row, pairs))
    logger.info(
        "%s: training the oracle on %d comparisons, %d steps", starter.folder, len(pairs), settings.oracle_steps
    )
    oracle = _train_oracle(starter, settings, pairs, seed, should_stop)
    return {
        "schema_version": 1,
        "num_prompts": len(training),
        "num_held_out_prompts": len(held_out),
        "num_sft_examples": supervised.examples,
        "sft_steps": supervised.steps,
        "sft_loss": supervised.last_loss,
        "num_oracle_pairs": len(pairs),
        "oracle": oracle,
    }


def _world_prompts(settings: StarterSettings, seed: int) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Held-out and training prompts: one draw without repetition, cut in two."""
    prompts = draw_prompts(settings.num_held_out_prompts + settings.num_prompts, seed=seed)
    return prompts[: settings.num_held_out_prompts], prompts[settings.num_held_out_prompts :]


def _annotated_pairs(
    starter: Starter, settings: StarterSettings, excluded: frozenset[str], seed: int, should_stop: Callable[[], bool]
) -> list[TrainingExample]:
    """Comparisons of the policy's own samples and of responses in the corpus's manner."""
    seed = stable_seed(seed, "annotated")
    prompts = draw_prompts(settings.num_annotated_prompts, seed=seed, excluded=excluded)
    samples = starter.folder / WORK_NAME / "samples"
    generation = GenerationSettings(num_responses=settings.num_sampled_responses, max_new_tokens=MAX_NEW_TOKENS)
    run_sharded(
        samples,
        prompts,
        _Samples(str(starter.policy), generation, seed),
        ResponseGroup,
        executor=HERE,
        shard_size=PROMPTS_PER_SHARD,
        description="starter: responses to compare",
        should_stop=should_stop,
    )
    pairs: list[TrainingExample] = []
    for group in read_parts(samples, ResponseGroup):
        texts = [response.text for response in group.responses] + _corpus_texts(group.prompt, settings, seed)
        count, love = settings.num_pairs_per_prompt, settings.length_love
        pairs += annotate(group.prompt, texts, num_pairs=count, length_love=love, seed=seed)
    return pairs


class _Samples:
    """Work: samples for the annotators. Their seeds are of an older kind than `sample_seeds`, so that worlds stay."""

    asks_server = False
    num_gpus = 1

    def __init__(self, policy: str, generation: GenerationSettings, seed: int) -> None:
        self.policy, self.generation, self.seed = policy, generation, seed

    def start(self) -> "_Sampler":
        return _Sampler(build_engine(self.generation, self.policy, CPU), self.generation.num_responses, self.seed)


class _Sampler:
    def __init__(self, engine: Engine, number: int, seed: int) -> None:
        self.engine, self.number, self.seed = engine, number, seed
        self.facts: Facts = {}

    def do(self, items: Sequence[Prompt]) -> tuple[Sequence[ResponseGroup], Sequence[Dropped]]:
        seeds = [[stable_seed(self.seed, prompt.id, k) for k in range(self.number)] for prompt in items]
        generated = self.engine.respond(items, seeds)
        return generated.groups, generated.dropped

    def close(self) -> None:
        self.engine.close()


def _corpus_texts(prompt: Prompt, settings: StarterSettings, seed: int) -> list[str]:
    task = task_of(_text(prompt))
    assert task is not None, prompt
    rng = Random(stable_seed(seed, "corpus", prompt.id))  # noqa: S311 - a reproducible draw, no secret
    return [write_response(task, rng) for _ in range(settings.num_corpus_responses)]


def _train_oracle(
    starter: Starter,
    settings: StarterSettings,
    pairs: Sequence[TrainingExample],
    seed: int,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train the oracle; what is known of it, as plain data."""
    training = OracleTrainingSettings(
        kind="pair_model",
        learning_rate=1e-3,
        max_steps=settings.oracle_steps,
        weight_decay=0.01,
        max_length=2 * settings.policy.max_length,
        logging_steps=50,
        save_steps=100,
    )
    apart = max(1, round(SHARE_KEPT_APART * len(pairs)))
    different, dropped = different_pairs(pairs)
    learnt, calibration, held_out = split_pairs(
        different, num_calibration=apart, num_held_out=apart, seed=stable_seed(seed, "oracle")
    )
    summary = train_oracle(
        str(starter.policy),
        learnt,
        training,
        starter.oracle,
        calibration=calibration,
        held_out=held_out,
        work=starter.folder / WORK_NAME / "oracle",
        seed=stable_seed(seed, "oracle"),
        should_stop=should_stop,
    )
    logits = summary.held_out.winner_logits()
    right = np.where(logits == 0, 0.5, logits > 0)
    return {
        "steps": summary.steps,
        "num_train_pairs": summary.num_pairs,
        "num_held_out_pairs": len(logits),
        "accuracy": asdict(share_interval(right, summary.held_out.prompt_ids)),
        "temperature": summary.temperature,
        "num_truncated": summary.num_truncated,
        "last_loss": summary.last_loss,
        "num_equal_pairs": len(dropped),
    }


def _text(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def _write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _prompt_row(prompt: Prompt) -> dict[str, object]:
    return {"id": prompt.id, "prompt": _text(prompt)}


def _supervised_row(example: TrainingExample) -> dict[str, object]:
    turns = [{"role": "user", "content": _text(example.prompt)}]
    turns.append({"role": "assistant", "content": example.responses[0].text})
    return {"id": example.id, "messages": turns}


def _pair_row(example: TrainingExample) -> dict[str, object]:
    chosen, rejected = (example.responses[index].text for index in example.pairs[0])
    return {"id": example.id, "prompt": _text(example.prompt), "chosen": chosen, "rejected": rejected}
