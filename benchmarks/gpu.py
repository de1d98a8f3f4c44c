"""Everything that needs a GPU, in one command of at most ten minutes; results are written as they come.

Each part runs in a process of its own with a time budget, so that one that fails, hangs or runs out of memory says so,
and the rest goes on; parts that no longer fit the total are left out, and told. `FOLDER/<part>.json` has each part's
figures or its error, `FOLDER/summary.json` all of them. TRL is the peer if it can be imported; otherwise fairplay's own
padded rows stand in, and the results say so.

    python benchmarks/gpu.py --out FOLDER [--parts kernel train_1b ...] [--tiny] [--total 580]
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUDGETS = {  # seconds, imports included
    "kernel": 75,  # tests of the real kernel
    "equality": 45,  # log-probs and gradients beside eager float32
    "waits": 40,  # operations in a step that the host waits for
    "train_1b": 110,
    "train_8b": 130,
    "full_8b": 90,  # AdamW on rows of 8 192 tokens
    "sppo_8b": 90,  # five responses, all weights and LoRA
    "generation": 60,
}
"""Together they may take longer than the total: a part that ends early leaves its time to the others."""


def run_part(name: str, out: Path, *, tiny: bool, limit: float) -> dict[str, Any]:
    """One part in a process of its own.

    Args:
        name: Name in `BUDGETS`.
        out: Folder of the results.
        tiny: Small shapes, on any device.
        limit: Seconds after which it is stopped.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(out), "--only", name]
    started = time.monotonic()
    try:
        arguments = ["--tiny"] if tiny else []
        done = subprocess.run([*command, *arguments], timeout=limit, capture_output=True, text=True, check=False)
        failure = "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-2000:]}"
    except subprocess.TimeoutExpired as error:
        failure = f"stopped after {limit:.0f} s: {(error.stderr or b'')[-1000:]!r}"
    path = out / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if failure and "error" not in found:  # what it had written before it was stopped stays
        found["error"] = failure
    found["part_seconds"] = round(time.monotonic() - started, 1)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def run_only(name: str, out: Path, *, tiny: bool) -> int:
    """The part itself, in this process; 1 if it fails."""
    from gpu_parts import PARTS, Place

    path, found = out / f"{name}.json", dict[str, Any]()

    def note(**values: Any) -> None:
        found.update(values)
        path.write_text(json.dumps(found, indent=1) + "\n")

    try:
        PARTS[name](Place(tiny=tiny), note)
    except Exception as error:  # noqa: BLE001 - told in the results, and the other parts go on
        note(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc()[-3000:])
        return 1
    return 0


def main() -> int:
    """Run the parts; 1 if one of them failed or was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--parts", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--tiny", action="store_true", help="small shapes, on any device: shows that it runs")
    parser.add_argument("--total", type=float, default=580, help="seconds for all parts")
    parser.add_argument("--only", choices=BUDGETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE))
    if asked.only:
        return run_only(asked.only, asked.out, tiny=asked.tiny)
    end, summary = time.monotonic() + asked.total, {}
    for name in asked.parts:
        left = end - time.monotonic()
        if left < 15:  # no process is up by then
            summary[name] = {"error": "left out: the time was up"}
        else:
            summary[name] = run_part(name, asked.out, tiny=asked.tiny, limit=min(BUDGETS[name], left))
        (asked.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(f"{name}: {json.dumps(summary[name])[:600]}", flush=True)
    return int(any("error" in found for found in summary.values()))


if __name__ == "__main__":
    sys.exit(main())
