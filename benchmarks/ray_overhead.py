"""What Ray costs: `fairplay generate` and `fairplay rank` by one worker of Ray beside the same two commands without it.

Every command is a process of its own, as a user starts it, and both ways run at the same time, each on a core, so that
they meet the same load, which is told. CPU seconds are those of all processes that a command started, Ray's own among
them, read from /proc twice a second (Linux). The outputs must be the same bytes, else the exit code is 1. Models are
small and have random weights.

    OMP_NUM_THREADS=1 python benchmarks/ray_overhead.py [--json FILE] [--quick] [--prompts N] [--rounds N]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fairplay.starter.scratch import write_untrained
from fairplay.starter.settings import ScratchSettings
from generation import SHAPES, make_model, make_prompts
from measuring import machine

MARK = "FAIRPLAY_BENCHMARK"
WORKERS = {"this process": (), "one worker": ("cluster.address=local", "cluster.num_workers=1")}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of a command, all its processes together."""

    cpu: float
    wall: float


def cpu_seconds(mark: str, seen: dict[str, float]) -> None:
    """Put the CPU seconds of every process with this mark in its environment into `seen`; who has ended stays there."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                seen[f"{place.name}/{fields[19]}"] = (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            continue  # it has just ended, or is another user's


def run(arguments: list[str], settings: tuple[str, ...]) -> Cost:
    """Run a command of fairplay to its end."""
    mark, seen = uuid.uuid4().hex, dict[str, float]()
    sets = [part for one in settings for part in ("--set", one)]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairplay", *arguments, *sets],
            env={**os.environ, MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
        while process.poll() is None:
            cpu_seconds(mark, seen)
            time.sleep(0.5)
        told.seek(0)
        assert process.returncode == 0, told.read()
    return Cost(sum(seen.values()), time.monotonic() - started)


def make_inputs(folder: Path, num_prompts: int) -> None:
    """A policy, a reward model and prompts."""
    make_model("tiny", folder / "policy")
    shape = {key: value for key, value in SHAPES["tiny"].items() if key != "vocab_size"}
    prompts = make_prompts(("tiny", num_prompts, 10, 40, 0))
    texts = [prompt.messages[0].content for prompt in prompts]
    write_untrained(folder / "reward", "reward_model", ScratchSettings("llama", 2048, shape), texts, seed=0)
    lines = [json.dumps({"id": prompt.id, "prompt": text}) for prompt, text in zip(prompts, texts, strict=True)]
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))


def both_commands(folder: Path, name: str, new_tokens: int) -> dict[str, Cost]:
    """Generate and rank in one of the two ways."""
    out = folder / name.replace(" ", "-")
    out.mkdir(exist_ok=True)
    asked = ["generate", "--model", str(folder / "policy"), "--input", str(folder / "prompts.jsonl")]
    judged = ["rank", "--input", str(out / "responses.jsonl"), "--output", str(out / "ranked.jsonl")]
    oracle = ("oracle.kind=reward_model", f"oracle.model={folder / 'reward'}")
    sampling = ("generation.num_responses=5", f"generation.max_new_tokens={new_tokens}")
    return {
        "generate": run([*asked, "--output", str(out / "responses.jsonl")], (*sampling, *WORKERS[name])),
        "rank": run(judged, (*oracle, *WORKERS[name])),
    }


def main() -> int:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, where starting up is most of it")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    num_prompts, new_tokens = (150, 32) if options.quick else (options.prompts, 64)
    found: dict[str, list[dict[str, Cost]]] = {name: [] for name in WORKERS}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_inputs(folder, num_prompts)
        for _ in range(options.rounds):
            with ThreadPoolExecutor(len(WORKERS)) as at_once:
                costs = at_once.map(lambda name: both_commands(folder, name, new_tokens), WORKERS)
                for name, cost in zip(WORKERS, costs, strict=True):
                    found[name].append(cost)
        files = [folder / name.replace(" ", "-") / "ranked.jsonl" for name in WORKERS]
        is_same = files[0].read_bytes() == files[1].read_bytes()
    ratios, rows = {}, []
    for command in ("generate", "rank", "both"):
        seconds = {
            name: {
                kind: statistics.median(
                    sum(getattr(cost, kind) for key, cost in one.items() if command in (key, "both")) for one in rounds
                )
                for kind in ("cpu", "wall")
            }
            for name, rounds in found.items()
        }
        alone, ray = seconds.values()
        ratios[command] = {kind: ray[kind] / alone[kind] for kind in alone} | {"seconds": seconds}
        rows.append(
            f"| {command} | {alone['cpu']:.1f} | {ray['cpu']:.1f} | {ray['cpu'] / alone['cpu']:.3f} "
            f"| {alone['wall']:.1f} | {ray['wall']:.1f} | {ray['wall'] / alone['wall']:.3f} |"
        )
    print(
        f"{num_prompts} prompts x 5 x {new_tokens} tokens; "
        f"load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    print(
        "| command | CPU s alone | with Ray | ratio | wall s alone | with Ray | ratio |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    print("\n".join(rows), f"\nthe same bytes: {is_same}")
    if options.json:
        document = {"machine": machine("ray"), "prompts": num_prompts, "load": load, "same": is_same, "results": ratios}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(not is_same)


if __name__ == "__main__":
    sys.exit(main())
