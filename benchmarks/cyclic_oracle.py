"""Self-play under an oracle that runs in a circle: win rates by its own probabilities against a Bradley-Terry reward.

A tiny language model plays it through the tool's whole loop (`cyclic_world.py`), and a table of three probabilities for
many more iterations (`cyclic_table.py`). How exploitable a policy is, is computed, not estimated. Writes
`cyclic_oracle.md` with its figures.

    python benchmarks/cyclic_oracle.py [--docs docs] [--json FILE] [--seeds 0 1 2] [--quick]
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import cyclic_table
from cyclic_circle import ARMS, NUM_LABELS, START, WORST, Vector, exploited
from cyclic_world import ETA, NUM_RESPONSES, build_world, play
from fairplay.storage.atomic import write_atomic

PROMPTS_PER_ITERATION = 50


@dataclass(frozen=True)
class Outcome:
    """One arm, one seed, one kind of policy.

    Attributes:
        last, average: Exploitability by the circle itself of each iterate and of the average so far, [T + 1].
        shares: Of the kinds in the last iterate, [3].
        on_texts: The least probability, over iterates, of the six texts together; 1 for a table.
        game: What the run found of its checkpoints' games; empty for a table.
    """

    arm: str
    seed: int
    last: tuple[float, ...]
    average: tuple[float, ...]
    shares: tuple[float, ...]
    on_texts: float
    game: Mapping[str, Any]


def outcome(arm: str, seed: int, policies: Vector, on_texts: float, game: Mapping[str, Any]) -> Outcome:
    """The figures of a self-play from its policies, [T + 1, ..., 3]."""
    counts = np.arange(1, len(policies) + 1).reshape(-1, *[1] * (policies.ndim - 1))
    averages = np.cumsum(policies, axis=0) / counts
    shares = policies[-1].reshape(-1, 3).mean(axis=0)
    curves = (tuple(map(exploited, curve)) for curve in (policies, averages))
    return Outcome(arm, seed, *curves, tuple(shares.tolist()), on_texts, game)


def play_model(seed: int, num_iterations: int, folder: Path) -> list[Outcome]:
    """All arms with a language model, from the same start policy and prompts."""
    world = build_world(folder, seed=seed, num_prompts=num_iterations * PROMPTS_PER_ITERATION)
    found = []
    for name, arm in ARMS.items():
        done = play(world, name, arm, num_iterations=num_iterations)
        found.append(outcome(name, seed, done.policies, float(done.on_texts.min()), done.game))
    return found


def play_table(seed: int, num_iterations: int) -> list[Outcome]:
    """All arms with a table."""
    return [outcome(name, seed, cyclic_table.play(arm, seed, num_iterations), 1.0, {}) for name, arm in ARMS.items()]


PAGE = """\
# Self-play under an oracle that runs in a circle

Made by `python benchmarks/cyclic_oracle.py --docs docs` (minutes, on one core).

Three kinds of responses beat each other in a circle, each the next with probability 0.9. No ranking fits: the best a
policy can do is to give each a third, and whoever gives one kind only loses 90 % of the games against the next. A
policy's exploitability is what its best opponent wins above one half: 0 at best, {worst} at worst.

- **Bradley-Terry reward**: a reward for each kind, fitted to {num_labels} verdicts of the circle on the start policy's
  responses; the same self-play then follows the reward. A reward can't say "circle": it names one kind best.
- **`calibrated`**: win rates from the oracle's own pair probabilities.
- **`sppo-code`**: the rule of SPPO's released code, which puts differences of aggregated scores in place of the pairs.

## A language model, through the whole loop

The embedded world's prompts; three kinds of stock replies from its vocabulary, in two wordings each; a Llama of two
layers that was taught to give them with probabilities {start}; then `fairplay run`'s own loop: {num_prompts} new
prompts an iteration, {num_responses} sampled responses each, logits in both presentation orders, leave-one-out win
rates, SPPO (eta {eta}), the last iterate as the next reference. Oracle and judge are files of recorded preferences.
Exploitability is computed from the model's log-probs of all six texts on {num_held_out} held-out prompts; they hold at
least {on_texts} of its probability throughout. A prompt with any other response among the five is left out and counted.

{model_table}

![exploitability over iterations](figures/cyclic_oracle.svg)

After {num_iterations} iterations; means over {num_seeds} seeds, with the range over seeds in brackets. Bradley-Terry
training goes for one kind of response, and its exploitability rises to the end. With pair probabilities the policy goes
round the equilibrium: no kind dies out, and the average of its iterates comes near to it, as theory promises for the
average, and only for it.

**What the report of these runs says.** `evaluation.all_checkpoints` lets the checkpoints of a run play each other:

{game_table}

The bound never exceeds the truth. But it is a bound, over the opponents that were tried: a policy on its way to one
kind beats every checkpoint before it, so nothing in its run exploits it (the report says that policies that were not
tried may), while the third kind wins up to 90 % of the games against it. "No progress" is said of a last iterate that
does not surely beat the one before it. Where the policy goes round, earlier checkpoints beat the last one, "stop" is
said as soon as that is sure, and the mixture that none beats has many of them in it: the sign of a circle. What to use
then is the mixture or an average, not the last iterate.

## In the long run, with a table

A table of three probabilities in place of the model, and all else the same but for eta ({table_eta}) and 100 prompts an
iteration: {num_long} iterations.

{table_table}

![exploitability over many iterations](figures/cyclic_oracle_table.svg)

The last iterate drifts outward slowly, the faster the larger eta, and `sppo-code` acts like a larger eta. An anchor
stops that drift; `preferences/self_play.py` has the rules that come with a guarantee for the last iterate (INPO,
Nash-MD, EGPO, COMAL).
"""


def _told(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _of(outcomes: Sequence[Outcome], arm: str) -> list[Outcome]:
    return [one for one in outcomes if one.arm == arm]


def _table(outcomes: Sequence[Outcome]) -> str:
    columns = (
        "trained on",
        "exploitability of the last iterate",
        "at worst",
        "of the average",
        "largest share of a kind",
    )
    lines = [_row(columns), "| --- | ---: | ---: | ---: | ---: |"]
    for name, arm in ARMS.items():
        own = _of(outcomes, name)
        cells = (
            [one.last[-1] for one in own],
            [max(one.last) for one in own],
            [one.average[-1] for one in own],
            [max(one.shares) for one in own],
        )
        lines.append(_row([arm.title, *map(_told, cells)]))
    return "\n".join(lines)


def _game_table(outcomes: Sequence[Outcome]) -> str:
    columns = ("trained on", "seed", "advice", "exploitability", "found by the run, its 95 % bound", "in the mixture")
    lines = [_row(columns), "| --- | ---: | --- | ---: | ---: | --- |"]
    for name, arm in ARMS.items():
        for one in _of(outcomes, name):
            game = one.game
            weights = [(share, who) for share, who in zip(game["nash"], game["names"], strict=True) if share >= 0.01]
            mixture = ", ".join(f"{who.removeprefix('iteration ')} ({share:.0%})" for share, who in weights)
            found = f"{game['exploitability']:.3f}, {game['exploitability_low']:.3f}"
            lines.append(_row([arm.title, str(one.seed), game["advice"], f"{one.last[-1]:.3f}", found, mixture]))
    return "\n".join(lines)


def page(model: Sequence[Outcome], table: Sequence[Outcome]) -> str:
    """The page in Markdown."""
    return PAGE.format(
        worst=f"{WORST:.1f}",
        num_labels=NUM_LABELS,
        start=f"({', '.join(map(str, START))})",
        num_prompts=PROMPTS_PER_ITERATION,
        num_responses=NUM_RESPONSES,
        eta=ETA,
        num_held_out=60,
        on_texts=f"{min(one.on_texts for one in model):.1%}".replace("%", " %"),
        model_table=_table(model),
        game_table=_game_table(model),
        num_iterations=len(model[0].last) - 1,
        num_seeds=len({one.seed for one in model}),
        table_eta=cyclic_table.ETA,
        table_table=_table(table),
        num_long=len(table[0].last) - 1,
    )


def figure(outcomes: Sequence[Outcome]) -> str:
    """Exploitability of the last and of the average iterate, an SVG of the same bytes every time."""
    with mpl.rc_context({"svg.hashsalt": "fairplay", "svg.fonttype": "none", "font.size": 8}):
        drawn = Figure(figsize=(8, 3), layout="constrained")
        panels: Any = drawn.subplots(1, 2, sharey=True)
        for axes, (key, title) in zip(
            panels, (("last", "last iterate"), ("average", "average of iterates")), strict=True
        ):
            for name, arm in ARMS.items():
                curves = np.array([getattr(one, key) for one in _of(outcomes, name)])
                steps = np.arange(curves.shape[1])
                axes.plot(steps, curves.mean(axis=0), color=arm.colour, label=arm.title.replace("`", ""))
                axes.fill_between(
                    steps, curves.min(axis=0), curves.max(axis=0), color=arm.colour, alpha=0.15, linewidth=0
                )
            axes.axhline(WORST, color="#6e7781", linewidth=0.6, dashes=(2, 2))
            axes.set_title(f"exploitability of the {title}", loc="left", fontsize=9)
            axes.set_xlabel("iteration")
            axes.set_ylim(0, 1.05 * WORST)
        panels[1].legend(frameon=False, loc="upper right")
        document = io.StringIO()
        drawn.savefig(document, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return "\n".join(text.rstrip() for text in document.getvalue().splitlines()) + "\n"


def write_docs(docs: Path, model: Sequence[Outcome], table: Sequence[Outcome]) -> None:
    """The page and its two figures."""
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    write_atomic(docs / "cyclic_oracle.md", page(model, table))
    write_atomic(docs / "figures" / "cyclic_oracle.svg", figure(model))
    write_atomic(docs / "figures" / "cyclic_oracle_table.svg", figure(table))


def main() -> int:
    """Play, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, help="write cyclic_oracle.md and its figures into this folder")
    parser.add_argument("--json", type=Path, help="write the figures for programs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed, few iterations")
    asked = parser.parse_args()
    seeds, num_iterations, num_long = (asked.seeds[:1], 6, 10) if asked.quick else (asked.seeds, 12, 150)
    table = [one for seed in seeds for one in play_table(seed, num_long)]
    with tempfile.TemporaryDirectory() as folder:
        model = [one for seed in seeds for one in play_model(seed, num_iterations, Path(folder) / str(seed))]
    print(page(model, table))
    if asked.docs:
        write_docs(asked.docs, model, table)
    if asked.json:
        told = {"model": [asdict(one) for one in model], "table": [asdict(one) for one in table]}
        write_atomic(asked.json, json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
