"""The fixed cost of an optimiser step: fairplay's loop beside a raw one, where the model costs next to nothing.

A tiny model reads one pair of 2 x 16 tokens a step. The raw loop is what one would write by hand: logits, DPO's loss,
backward, clipping, AdamW, schedule; no records, guards or checkpoints. Both must end with the same weights. Goal: less
than 1 ms of CPU time between them where fairplay reads padded rows as the raw loop does. The layout `shared`, which
fairplay chooses for real rows, makes several attention calls in each layer: its cost grows with layers, not with steps.

    python benchmarks/step_overhead.py [--quick] [--json FILE]
"""

import argparse
import copy
import json
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from fairplay.models.encoding import EncodedExample
from fairplay.objectives.table import build_objective
from fairplay.records import Prompt, TrainingExample
from fairplay.training.batches import TrainingSet
from fairplay.training.optimizers import build_optimizer, build_schedule
from fairplay.training.plan import plan_steps
from fairplay.training.reading import Reading
from fairplay.training.reference import Scorer
from fairplay.training.reference_rows import reference_rows
from fairplay.training.renewal import PolicyItself, Renewal
from fairplay.training.settings import TrainingSettings
from fairplay.training.stepping import Learner
from fairplay.training.steps import run_steps
from measuring import machine, spread, take_turns

GOAL_MS = 1.0
BETA = 0.1
LARGEST_DIFFERENCE = 1e-5  # of weights, after all steps
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": True}  # fmt: skip


def make_examples(count: int) -> tuple[EncodedExample, ...]:
    """Pairs of a prompt of 8 tokens with responses of 8."""
    rng = random.Random(0)
    made = []
    for number in range(count):
        prompt, *responses = (tuple(rng.randrange(5, 300) for _ in range(8)) for _ in range(3))
        example = TrainingExample(str(number), Prompt(str(number), ()), (), ((0, 1),))
        made.append(EncodedExample(example, prompt, tuple(responses)))
    return tuple(made)


class PaddedReading(Reading):
    """Reads rows as the raw loop does."""

    def layout(self, model: PreTrainedModel) -> str:
        """The same for every model."""
        return "padded"


class Engines:
    """Both loops on the same model, examples and settings."""

    def __init__(self, num_steps: int) -> None:
        torch.manual_seed(0)
        self.start: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
        self.settings = TrainingSettings(learning_rate=1e-4, per_device_train_batch_size=1, save_steps=0)
        self.examples = make_examples(num_steps)
        self.plan = plan_steps(self.examples, self.settings, seed=0)
        self.objective = build_objective("dpo", {"beta": BETA})
        self.readings = {"padded": PaddedReading(longest=16, bf16=False), "shared": Reading(longest=16, bf16=False)}
        self.scorer = Scorer(64, reading=self.readings["padded"], should_stop=bool)
        self.rows = reference_rows(self.objective, self.examples, self.plan, 0, num_steps)
        logps = self.scorer.token_logps(self.start, tuple(self.rows.examples.values()), "reference")
        self.reference = self.rows.with_logps(logps, ())
        self.weights: dict[str, Tensor] = {}

    def fairplay(self, layout: str) -> float:
        """The steps as `fairplay train` takes them, records included."""
        model = copy.deepcopy(self.start)
        learner = Learner(
            model=model,
            data=TrainingSet(self.examples, self.reference, 0.0),
            objective=self.objective,
            seed=0,
            reading=self.readings[layout],
            has_dropout=False,
            steps_at_reference=frozenset({0}),
        )
        renewal = Renewal(self.plan.num_steps, lambda first, end: self.rows, self.scorer, PolicyItself())
        with tempfile.TemporaryDirectory() as folder:
            steps = partial(run_steps, learner, self.plan, renewal, self.settings, fingerprint="", should_stop=bool)
            loss = steps(work=Path(folder)).last_loss
        self.weights[layout] = torch.cat([p.detach().flatten() for p in model.parameters()])
        return loss

    def raw(self) -> float:
        """The steps by hand."""
        model = copy.deepcopy(self.start)
        parameters = list(model.parameters())
        optimizer = build_optimizer(parameters, self.settings)
        schedule = build_schedule(optimizer, self.settings, self.plan.num_steps)
        loss = torch.zeros(())
        for _, ((index,),) in self.plan.steps(0, self.plan.num_steps):
            example = self.examples[index]
            ids = torch.tensor([[*example.prompt_ids, *response] for response in example.response_ids])
            logits = model(input_ids=ids, use_cache=False).logits[:, 7:-1]
            logps = logits.log_softmax(-1).gather(-1, ids[:, 8:, None])[..., 0].sum(-1)
            rewards = BETA * (logps - self.reference.examples[index].reshape(2, 8).sum(-1))
            loss = -logsigmoid(rewards[0] - rewards[1])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        self.weights["raw"] = torch.cat([p.detach().flatten() for p in parameters])
        return loss.item()


def main() -> int:
    """Measure, print, write the figures; 1 if the loops do not end with the same weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 steps and 5 rounds in place of 300 and 11.")
    parser.add_argument("--json", type=Path, help="Write the figures to this file too.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num_steps, rounds = (100, 5) if options.quick else (300, 11)
    engines = Engines(num_steps)
    layouts = {layout: partial(engines.fairplay, layout) for layout in engines.readings}
    turns = take_turns({"raw": engines.raw, **layouts}, rounds)
    difference = max((engines.weights["raw"] - engines.weights[name]).abs().max().item() for name in layouts)
    ms = {name: [1e3 * seconds / num_steps for seconds in turn.seconds] for name, turn in turns.items()}
    overhead = {name: spread([own - raw for own, raw in zip(ms[name], ms["raw"], strict=True)]) for name in layouts}
    for name, values in ms.items():
        told = spread(values)
        print(f"{name:>10}: {told['median']:.2f} [{told['min']:.2f}-{told['max']:.2f}] CPU ms a step")
    for name, told in overhead.items():
        print(f"{name:>10}: {told['median']:.2f} [{told['min']:.2f}-{told['max']:.2f}] ms more than by hand")
    print(f"goal: {GOAL_MS} ms where rows are read as by hand; `shared` adds calls in each of the model's layers")
    print(f"largest difference of a weight after {num_steps} steps: {difference:.1e}")
    if options.json:
        figures = {
            "machine": machine("transformers"),
            "ms": {name: spread(values) for name, values in ms.items()},
            "overhead_ms": overhead,
            "largest_difference": difference,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(not difference <= LARGEST_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
