"""Training steps of fairplay beside TRL's DPOTrainer in each of its modes: same groups, loss, weights and optimiser.

The log-probs and the losses of the first steps are equal, or the benchmark fails. Then the engines take turns; TRL's
best mode is the fastest on these data, found in a first round and measured on. `useful tokens` are those of every
response with its own copy of the prompt, without padding, so the ratio of times is that of useful tokens a second.
Needs trl in the environment.

    python benchmarks/train_vs_trl.py [--quick] [--json FILE] [--sets uf longprompt k5] [--models 32k 4k]
        [--dtype float32 bfloat16] [--rounds 5] [--threads 1] [--layout shared] [--budget 4096]
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import LAYOUTS
from fairplay.training.batches import num_input_tokens
from fairplay_engine import FairplayEngine
from measuring import Turns, machine, ratios, spread, take_turns, told
from trl_engine import DEFAULT, MODES, Mode, TrlEngine
from workloads import MODELS, SETS, make_examples, make_model

LOGPS, LOSSES = {"float32": 1e-5, "bfloat16": 1e-2}, {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest relative difference of a response's log-prob, and of a step's loss: after steps of Adam, which divides by the
gradient's size, rounding is no longer small."""

CLOSE = 1.3
"""Modes of TRL within this factor of its fastest are measured in every round."""

SHARE = 0.25
"""Of the layers, made again in the backward pass by the engine that takes little memory and is still fast."""


@dataclass(frozen=True)
class Case:
    """One model on one set, in one type."""

    data: str
    model: str
    dtype: str
    layout: str
    budget: int
    modes: Sequence[Mode]

    @cached_property
    def examples(self) -> tuple[EncodedExample, ...]:
        """The groups of a step."""
        return make_examples(self.data, int(MODELS[self.model]["vocab_size"]))

    def engines(self) -> dict[str, FairplayEngine | TrlEngine]:
        """All engines by name, fairplay's main one first."""
        given = {"bf16": self.dtype == "bfloat16"}
        ours = {"layout": self.layout, **given}
        found: dict[str, FairplayEngine | TrlEngine] = {
            "fairplay": FairplayEngine(self.examples, self.model, budget=self.budget, **ours)
        }
        apart = ", a group at a time" if len(self.examples) > 1 else ""
        if apart:
            found[f"fairplay{apart}"] = FairplayEngine(self.examples, self.model, budget=1, **ours)
        found[f"fairplay{apart}, {SHARE:.0%} checkpointed"] = FairplayEngine(
            self.examples, self.model, budget=1, checkpointed=SHARE, **ours
        )
        found["fairplay, checkpointing"] = FairplayEngine(
            self.examples, self.model, budget=self.budget, checkpointed=1.0, **ours
        )
        return found | {
            mode.name: TrlEngine(mode, self.examples, partial(make_model, self.model), **given) for mode in self.modes
        }


def equality(case: Case, engines: dict[str, FairplayEngine | TrlEngine]) -> dict[str, float]:
    """Largest relative difference of the responses' log-probs from those of fairplay, by engine that tells them."""
    ours = torch.tensor(engines["fairplay"].reference_logps(), dtype=torch.float64)
    others = {name: e for name, e in engines.items() if isinstance(e, FairplayEngine) or e.mode.precomputed}
    theirs = {name: torch.tensor(e.reference_logps(), dtype=torch.float64) for name, e in others.items()}
    return {name: float(((found - ours) / ours).abs().max()) for name, found in theirs.items()}


def measure(case: Case, rounds: int) -> dict[str, object]:
    """Equality, a first round of all engines, then rounds of fairplay and of TRL's fastest modes."""
    engines = case.engines()
    differences = equality(case, engines)
    found = take_turns({name: engine.step for name, engine in engines.items()}, 1)
    fastest = min(found[mode.name].seconds[0] for mode in case.modes)
    slow = {mode.name for mode in case.modes if found[mode.name].seconds[0] > CLOSE * fastest}
    for name in slow:
        del engines[name]
    for name, turns in take_turns({name: engine.step for name, engine in engines.items()}, rounds).items():
        first = found[name].results
        found[name] = Turns(turns.seconds, turns.mib, turns.mib_in_use, first + turns.results)
    return report(case, found, differences, slow)


def report(case: Case, found: dict[str, Turns], differences: dict[str, float], slow: set[str]) -> dict[str, object]:
    """The case's table, printed, and its figures."""
    ours, useful = found["fairplay"], num_input_tokens(case.examples)
    best = min(
        (m.name for m in case.modes if m.name not in slow), key=lambda name: spread(found[name].seconds)["median"]
    )
    print(f"\n{case.data}, {case.model} words, {case.dtype}: {len(case.examples)} groups, {useful} useful tokens\n")
    columns = (
        *(
            "engine",
            "CPU s a step",
            "time / fairplay",
            "MiB",
            "MiB / best of TRL",
            "MiB in use",
            "in use / best of TRL",
        ),
        "loss of step 2",
    )
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    lines = []
    for name, turns in found.items():
        # A slow mode had one turn, beside fairplay's of another round: its ratio is of medians.
        medians = spread(turns.seconds)["median"] / spread(ours.seconds)["median"]
        ratio = {"median": medians, "min": medians, "max": medians} if name in slow else ratios(turns, ours)
        memory = spread(turns.mib)["median"] / spread(found[best].mib)["median"]
        in_use = turns.mib_in_use / found[best].mib_in_use
        pairs = list(zip(turns.results, ours.results, strict=False))
        loss = max(abs(one - other) / abs(other) for one, other in pairs)
        is_equal = loss <= LOSSES[case.dtype] and differences.get(name, 0.0) <= LOGPS[case.dtype]
        lines.append(
            {"engine": name, "seconds": spread(turns.seconds), "ratio": ratio, "turns": len(turns.seconds),
             "tokens_per_second": useful / spread(turns.seconds)["median"], "mib": spread(turns.mib),
             "memory_ratio": memory,
             "mib_in_use": turns.mib_in_use, "in_use_ratio": in_use, "loss_difference": loss,
             "logp_difference": differences.get(name), "losses": turns.results, "equal": is_equal,
             "best_of_trl": name == best}
        )  # fmt: skip
        cells = (
            f"**{name}**" if name == best else name,
            f"{spread(turns.seconds)['median']:.2f}",
            f"{medians:.2f} (one turn)" if name in slow else told(ratio),
            f"{spread(turns.mib)['median']:.0f}",
            f"{memory:.2f}",
            f"{turns.mib_in_use:.0f}",
            f"{in_use:.2f}",
            f"{turns.results[1]:.5f}{'' if is_equal else ' DIFFERS'}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    return {"set": case.data, "model": case.model, "dtype": case.dtype, "layout": case.layout, "budget": case.budget,
            "groups": len(case.examples), "useful_tokens": useful, "best_of_trl": best, "engines": lines}  # fmt: skip


QUICK_MODES = (DEFAULT, Mode(pairs=1, precomputed=True))


def main() -> int:
    """Measure every case asked for; exit 1 where an engine computes something else."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="two modes of TRL, 2 rounds, and one case unless told")
    parser.add_argument("--json", type=Path, help="write the results to this file, anew after every case")
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--dtype", nargs="+", choices=LOGPS)
    parser.add_argument("--layout", choices=LAYOUTS, default="shared")
    parser.add_argument("--budget", type=int, default=4096, help="tokens of an input of fairplay's main engine")
    parser.add_argument("--rounds", type=int, help="5, or 2 if quick")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    where = machine("trl", "transformers")
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    modes, rounds = (QUICK_MODES, asked.rounds or 2) if asked.quick else (MODES, asked.rounds or 5)
    of_quick = ["uf"], ["4k"], ["float32"]
    sets, models, types = of_quick if asked.quick else (list(SETS), list(MODELS), list(LOGPS))
    sets, models, types = asked.sets or sets, asked.models or models, asked.dtype or types
    combinations = [(data, model, dtype) for dtype in types for model in models for data in sets]
    results = []
    for data, model, dtype in combinations:
        results.append(measure(Case(data, model, dtype, asked.layout, asked.budget, modes), rounds))
        if asked.json:
            asked.json.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    return int(not all(line["equal"] for result in results for line in result["engines"]))


if __name__ == "__main__":
    sys.exit(main())
