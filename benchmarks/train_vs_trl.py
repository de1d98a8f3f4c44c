"""Training steps of fairplay beside TRL's DPOTrainer in each of its modes: same groups, loss, weights and optimiser.

The log-probs and the losses of the first steps are equal, or the benchmark fails. Then the engines take turns; TRL's
best mode is the fastest on these data, found in a first round and measured on. `useful tokens` are those of every
response with its own copy of the prompt, without padding, so the ratio of times is that of useful tokens a second.
TRL is the one of this environment, or that of another python (`--peer-python`, TRL 0.24 or 1.16), in its own process.

    python benchmarks/train_vs_trl.py [--quick] [--json FILE] [--sets uf longprompt k5] [--models 32k 4k]
        [--dtype float32 bfloat16] [--rounds 5] [--threads 1] [--layout shared] [--budget 4096] [--groups N]
        [--peer-python PYTHON]
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import torch

from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import LAYOUTS
from fairplay.training.batches import num_input_tokens
from fairplay_engine import FairplayEngine
from measuring import Turn, Turns, machine, play_rounds, ratios, spread, told, turn
from peer import PeerEngine, PeerProcess
from trl_modes import Mode, modes_of
from workloads import MODELS, SETS, draw_examples, make_model, token_pairs

LOGPS, LOSSES = {"float32": 1e-5, "bfloat16": 1e-2}, {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest relative difference of a response's log-prob, and of a step's loss: after steps of Adam, which divides by the
gradient's size, rounding is no longer small."""

CLOSE = 1.3
"""Modes of TRL within this factor of its fastest are measured in every round."""

SHARE = 0.25
"""Of the layers, made again in the backward pass by the engine that takes little memory and is still fast."""


class Steps(Protocol):
    """What an engine of this process can do."""

    def step(self) -> float:
        """One optimiser step; its loss."""

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair."""


class Here:
    """An engine of this process, as `PeerEngine` is one of another."""

    def __init__(self, engine: Steps) -> None:
        self.turn: Callable[..., Turn] = partial(turn, engine.step)
        self.reference_logps = engine.reference_logps

    def close(self) -> None:
        """Its memory is free once nothing holds it."""
        del self.turn, self.reference_logps


Engine = Here | PeerEngine


@dataclass(frozen=True)
class Case:
    """One model on one set, in one type.

    Attributes:
        quick: Fewer modes, and fewer engines of fairplay.
    """

    data: str
    model: str
    dtype: str
    layout: str
    budget: int
    groups: int
    quick: bool

    @cached_property
    def examples(self) -> tuple[EncodedExample, ...]:
        """The groups of a step."""
        return draw_examples(self.data, int(MODELS[self.model]["vocab_size"]), groups=self.groups)

    @property
    def bf16(self) -> bool:
        """Whether products are in bfloat16."""
        return self.dtype == "bfloat16"

    def ours(self) -> dict[str, Engine]:
        """Engines of fairplay by name, the main one first."""
        apart = ", a group at a time" if len(self.examples) > 1 else ""
        lean = {f"fairplay{apart}, {SHARE:.0%} checkpointed": (1, SHARE)}
        more = {f"fairplay{apart}": (1, 0.0)} if apart else {}
        more |= lean | {"fairplay, checkpointing": (self.budget, 1.0)}
        return {
            name: Here(
                FairplayEngine(
                    self.examples, self.model, bf16=self.bf16, layout=self.layout, budget=budget, checkpointed=share
                )
            )
            for name, (budget, share) in ({"fairplay": (self.budget, 0.0)} | (lean if self.quick else more)).items()
        }


@dataclass(frozen=True)
class Trl:
    """TRL, here or in another process.

    Attributes:
        versions: Of its packages.
        has_liger: Whether liger-kernel can be imported there.
        build: Makes the engine of a mode.
    """

    versions: Mapping[str, str]
    has_liger: bool
    build: Callable[[Mode], Engine] = field(repr=False)


@contextmanager
def trl_for(case: Case, python: str, threads: int) -> Iterator[Trl]:
    """TRL with the case's weights and pairs; in a process of its own if there is a python for it."""
    pairs = token_pairs(case.examples)
    if not python:
        from transformers.utils import is_liger_kernel_available

        from trl_engine import TrlEngine

        versions = {name: version(name) for name in ("trl", "torch", "transformers")}
        build = partial(make_model, case.model)
        yield Trl(versions, is_liger_kernel_available(), lambda m: Here(TrlEngine(m, pairs, build, bf16=case.bf16)))
        return
    script = Path(__file__).with_name("trl_peer.py")
    with tempfile.TemporaryDirectory() as folder, PeerProcess(python, script, threads=threads) as peer:
        make_model(case.model).save_pretrained(folder)
        versions = peer.ask("about")

        def build_there(mode: Mode) -> Engine:
            peer.ask("build", name=mode.name, mode=asdict(mode), folder=folder, pairs=pairs, bf16=case.bf16)
            return PeerEngine(peer, mode.name)

        yield Trl(versions, versions.pop("liger"), build_there)


def equality(engines: Mapping[str, Engine]) -> dict[str, float]:
    """Largest relative difference of the responses' log-probs from those of fairplay, by engine."""
    logps = {name: torch.tensor(e.reference_logps(), dtype=torch.float64) for name, e in engines.items()}
    ours = logps["fairplay"]
    return {name: float(((found - ours) / ours).abs().max()) for name, found in logps.items()}


def measure(case: Case, trl: Trl, rounds: int) -> dict[str, object]:
    """Equality, a first round of all engines, then rounds of fairplay and of TRL's fastest modes."""
    modes = {mode.name: mode for mode in modes_of(trl.versions["trl"], has_liger=trl.has_liger, quick=case.quick)}
    engines = case.ours() | {name: trl.build(mode) for name, mode in modes.items()}
    differences = equality(engines)
    found: dict[str, Turns] = {}
    play_rounds({name: engine.turn for name, engine in engines.items()}, range(-1, 2), found)
    fastest = min(found[name].seconds[0] for name in modes)
    slow = {name for name in modes if found[name].seconds[0] > CLOSE * fastest}
    for name in slow:
        engines.pop(name).close()
    play_rounds({name: engine.turn for name, engine in engines.items()}, range(2, rounds + 1), found)
    best = min(modes.keys() - slow, key=lambda name: spread(found[name].seconds)["median"])
    return report(case, trl, found, differences, best)


COLUMNS = (
    "engine", "CPU s a step", "time / fairplay", "best of TRL / it, time", "MiB", "MiB / best of TRL", "MiB in use",
    "in use / best of TRL", "loss of step 2",
)  # fmt: skip


def report(
    case: Case, trl: Trl, found: Mapping[str, Turns], differences: Mapping[str, float], best: str
) -> dict[str, object]:
    """The case's table, printed, and its figures."""
    useful, peer = num_input_tokens(case.examples), found[best]
    print(f"\n{case.data}, {case.model} words, {case.dtype}: {len(case.examples)} groups, {useful} useful tokens; "
          f"{', '.join(f'{name} {value}' for name, value in trl.versions.items())}"
          f"{'' if trl.has_liger else ', no liger-kernel'}\n")  # fmt: skip
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    lines = []
    for name, turns in found.items():
        pairs = zip(turns.results, found["fairplay"].results, strict=False)
        loss = max(abs(one - other) / abs(other) for one, other in pairs)
        line = {
            "engine": name,
            "turns": len(turns.seconds),
            "seconds": spread(turns.seconds),
            "tokens_per_second": useful / spread(turns.seconds)["median"],
            "ratio": ratios(turns, found["fairplay"]),
            "best_of_trl_over_it": ratios(peer, turns),
            "mib": spread(turns.mib),
            "memory_ratio": spread(turns.mib)["median"] / spread(peer.mib)["median"],
            "mib_in_use": turns.mib_in_use,
            "in_use_ratio": turns.mib_in_use / peer.mib_in_use,
            "losses": turns.results,
            "loss_difference": loss,
            "logp_difference": differences[name],
            "equal": loss <= LOSSES[case.dtype] and differences[name] <= LOGPS[case.dtype],
            "best_of_trl": name == best,
        }
        lines.append(line)
        _print(line)
    known = {"set" if name == "data" else name: value for name, value in asdict(case).items()}
    peers = {"trl": dict(trl.versions), "has_liger": trl.has_liger, "best_of_trl": best}
    return known | {"useful_tokens": useful} | peers | {"engines": lines}


def _print(line: Mapping[str, Any]) -> None:
    """A line of the table."""
    once = " (one turn)" if line["turns"] == 1 else ""
    cells = (
        f"**{line['engine']}**" if line["best_of_trl"] else line["engine"],
        f"{line['seconds']['median']:.2f}",
        f"{line['ratio']['median']:.2f}{once}" if once else told(line["ratio"]),
        f"{line['best_of_trl_over_it']['median']:.2f}{once}" if once else told(line["best_of_trl_over_it"]),
        f"{line['mib']['median']:.0f}",
        f"{line['memory_ratio']:.2f}",
        f"{line['mib_in_use']:.0f}",
        f"{line['in_use_ratio']:.2f}",
        f"{line['losses'][1]:.5f}{'' if line['equal'] else ' DIFFERS'}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> int:
    """Measure every case asked for; exit 1 where an engine computes something else."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="half of the groups, two modes of TRL, 2 rounds, and one case unless told"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file, anew after every case")
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--dtype", nargs="+", choices=LOGPS)
    parser.add_argument("--layout", choices=LAYOUTS, default="shared")
    parser.add_argument("--budget", type=int, default=4096, help="tokens of an input of fairplay's main engine")
    parser.add_argument("--groups", type=int, help="of a step; else as many as the set has")
    parser.add_argument("--rounds", type=int, help="5, or 2 if quick")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-python", default="", help="runs TRL in a process of its own, with its own packages")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    where = machine("transformers")
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    rounds = asked.rounds or (2 if asked.quick else 5)
    of_quick = ["uf"], ["4k"], ["float32"]
    sets, models, types = of_quick if asked.quick else (list(SETS), list(MODELS), list(LOGPS))
    sets, models, types = asked.sets or sets, asked.models or models, asked.dtype or types
    results = []
    for dtype, model, data in product(types, models, sets):
        groups = asked.groups or max(1, SETS[data].num_groups // (2 if asked.quick else 1))
        case = Case(data, model, dtype, asked.layout, asked.budget, groups, asked.quick)
        with trl_for(case, asked.peer_python, asked.threads) as trl:
            results.append(measure(case, trl, rounds))
        if asked.json:
            asked.json.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    return int(not all(line["equal"] for result in results for line in result["engines"]))


if __name__ == "__main__":
    sys.exit(main())
