"""What an iteration costs from one accelerator to 64 machines of eight, and from 20 thousand to 10 million prompts.

Arithmetic only, with the constants of `fairplay.pipeline.planning.costs` on the published SPPO recipe of Llama-3-8B;
nothing is measured here. Writes the tables of `docs/scaling.md`.

    python benchmarks/scaling.py [--docs docs] [--hardware h100] [--json FILE]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairplay.pipeline.context import CHECKPOINT, EVALUATION, PREFERENCES, RESPONSES
from fairplay.pipeline.planning.clock import Clock, Place
from fairplay.pipeline.planning.costs import HALF, HARDWARE, OPTIMIZER_BYTES, sharding_seconds
from fairplay.pipeline.planning.shapes import model_shape
from fairplay.pipeline.planning.wording import duration, size
from fairplay.pipeline.planning.work import Lengths, iteration_work, responses_per_example
from fairplay.pipeline.settings import RunSettings, read_run_settings

RECIPE = Path(__file__).parents[1] / "recipes" / "sppo" / "llama-3-8b-instruct.yaml"
DEVICES = (1, 8, 32, 64, 128, 256, 512)
PROMPTS = (20_000, 200_000, 1_000_000, 10_000_000)
LENGTHS = Lengths(200, 400, "assumed")
STEP = 64
"""Examples of an optimiser step, as SPPO's; more accelerators than that take one example each, a larger step."""
STAGES = {RESPONSES: "generation", PREFERENCES: "ranking", CHECKPOINT: "training"}


def settings_for(devices: int) -> RunSettings:
    """The recipe with a step of `STEP` examples, or of one a device where there are more."""
    recipe = read_run_settings(RECIPE, [])
    share = max(1, STEP // devices)
    training = replace(recipe.training, per_device_train_batch_size=1, gradient_accumulation_steps=share)
    return replace(recipe, training=training)


def iteration(prompts: int, devices: int, hardware: str) -> dict[str, Any]:
    """One iteration: seconds by stage, bytes it leaves, and the share of training that is spent sending."""
    settings, shape = settings_for(devices), model_shape(read_run_settings(RECIPE, []).model)
    assert shape is not None
    work = iteration_work(settings, prompts=prompts, held_out=0, lengths=LENGTHS, weight_bytes=HALF * shape.parameters)
    clock = Clock(settings, LENGTHS, None, Place(hardware, devices), shape)
    seconds = {STAGES[item.stage]: clock.seconds(item) for item in work if item.stage in STAGES}
    step = settings.training.examples_per_step * devices
    sent = prompts / step * sharding_seconds(shape, HARDWARE[hardware], devices=devices)
    return {
        "prompts": prompts,
        "devices": devices,
        "step": step,
        "steps": prompts / step,
        "seconds": seconds,
        "total": sum(value or 0.0 for value in seconds.values()),
        "sending": sent,
        "disk": sum(item.disk for item in work if item.stage != EVALUATION),
    }


def storage(prompts: int) -> dict[str, float]:
    """Bytes of one iteration by kind."""
    settings, shape = settings_for(8), model_shape(read_run_settings(RECIPE, []).model)
    assert shape is not None
    tokens = prompts * responses_per_example(settings) * LENGTHS.response
    number = settings.generation.num_responses
    states = OPTIMIZER_BYTES[settings.training.optim]
    return {
        "responses": 8 * tokens,
        "pair logits": 8.0 * prompts * number * number,
        "reference log-probs": 4 * tokens,
        "checkpoint": float(HALF * shape.parameters),
        "checkpoint in progress": (HALF + 2 + states) * shape.parameters,
    }


def tables(hardware: str) -> str:
    """The tables of the page, in Markdown."""
    lines = [f"| prompts | {' | '.join(map(str, DEVICES))} |", "| ---: |" + " ---: |" * len(DEVICES)]
    for prompts in PROMPTS:
        cells = [duration(iteration(prompts, devices, hardware)["total"]) for devices in DEVICES]
        lines.append(f"| {prompts:,} | {' | '.join(cells)} |")
    lines += [
        "",
        "| accelerators | step | generation | ranking | training | of it sending |",
        "| ---: |" + " ---: |" * 5,
    ]
    for devices in DEVICES:
        one = iteration(200_000, devices, hardware)
        parts = [duration(one["seconds"][name]) for name in STAGES.values()]
        share = one["sending"] / (one["seconds"]["training"] or 1.0)
        lines.append(f"| {devices} | {one['step']} | {' | '.join(parts)} | {100 * min(share, 1):.0f} % |")
    kinds = list(storage(1))
    lines += ["", f"| prompts | {' | '.join(kinds)} |", "| ---: |" + " ---: |" * len(kinds)]
    for prompts in PROMPTS:
        lines.append(f"| {prompts:,} | {' | '.join(size(value) for value in storage(prompts).values())} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--hardware", choices=sorted(HARDWARE), default="h100")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    told = tables(chosen.hardware)
    print(told)
    if chosen.json:
        found = [iteration(prompts, devices, chosen.hardware) for prompts in PROMPTS for devices in DEVICES]
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    if chosen.docs:
        path = chosen.docs / "scaling.md"
        before, _, rest = path.read_text(encoding="utf-8").partition("<!-- tables -->\n")
        after = rest.partition("<!-- end of tables -->\n")[2]
        path.write_text(f"{before}<!-- tables -->\n{told}<!-- end of tables -->\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
