"""A pair ranker beside LLM-Blender 0.0.2: the same prompts, the same random weights, in turns on one CPU.

Each side has a process of its own, for its peak of memory; they take turns, prompts by prompts, and while one works the
others wait. LLM-Blender's own code runs (`Blender.rank`, K responses, all ordered pairs); transformers 5 took away two
names that it needs, and only these are put back: `transformers.utils.hub.TRANSFORMERS_CACHE`, and `batch_encode_plus`,
which is now a call of the tokenizer. Needs llm-blender in some environment with torch and transformers:

    python benchmarks/pair_ranker.py [--peer-python PYTHON] [--quick] [--json FILE] [--num-prompts N]
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NUM_RESPONSES = 5
SHORTEST = 8
"""Words of the shortest prompts and responses; lengths are log-uniform up to --longest. One word is one token."""
SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "quick": {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512},
}
WORDS = 2000
SIDES = ("fairplay", "fairplay, one order", "llm-blender, batch 8", "llm-blender, batch 1")
Rank = Callable[[Sequence[dict[str, Any]]], list[list[float]]]


def make_prompts(count: int, longest: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Prompts with K responses of mixed lengths."""
    draw = random.Random(seed)

    def text() -> str:
        words = round(SHORTEST * (longest / SHORTEST) ** draw.random())
        return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(words))

    return [{"prompt": text(), "responses": [text() for _ in range(NUM_RESPONSES)]} for _ in range(count)]


def make_ranker(folder: Path, size: str) -> None:
    """A random ranker in LLM-Blender's layout: DeBERTa-v3's architecture, a tokenizer of whole words."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    words = [*specials, *(f"w{number}" for number in range(WORDS))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token", "unk_token", "mask_token"), specials, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder / "base")
    config = DebertaV2Config(
        vocab_size=len(words),
        relative_attention=True,
        position_buckets=256,
        max_relative_positions=-1,
        max_position_embeddings=512,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        initializer_range=0.06,
        **SIZES[size],
    )
    torch.manual_seed(0)
    backbone = DebertaV2Model(config)
    backbone.save_pretrained(folder / "base")
    backbone.resize_token_embeddings(len(words) + 4, mean_resizing=False)
    width = config.hidden_size
    weights = {f"pretrained_model.{name}": value for name, value in backbone.state_dict().items()}
    for name, shape in (
        ("1.weight", (width, 2 * width)),
        ("1.bias", (width,)),
        ("4.weight", (1, width)),
        ("4.bias", (1,)),
    ):
        weights[f"head_layer.{name}"] = torch.randn(shape)
    (folder / "ranker").mkdir()
    save_file(weights, folder / "ranker" / "model.safetensors")
    about = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": str(folder / "base"), "fp16": False}
    lengths = {"source_maxlength": 1224, "candidate_maxlength": 412, "n_tasks": 1, "drop_out": 0.05, "device": "cpu"}
    (folder / "ranker" / "config.json").write_text(json.dumps(about | lengths))


def fairplay_side(ranker: str, orders: str) -> Rank:
    """Rank scores by this package, through the oracle as every command builds it."""
    import numpy as np

    from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
    from fairplay.oracles.table import build_oracle
    from fairplay.preferences.win_matrix import group_logits, symmetric_logits
    from fairplay.records import Message, Prompt, Response, ResponseGroup

    oracle = build_oracle(PairRankerSettings(model=ranker, orders=orders))

    def rank(lines: Sequence[dict[str, Any]]) -> list[list[float]]:
        groups = [
            ResponseGroup(Prompt("p", (Message("user", line["prompt"]),)), tuple(map(Response, line["responses"])))
            for line in lines
        ]
        judged = oracle.pair_logits(groups)
        return [np.asarray(2 * symmetric_logits(group_logits(item)).mean(1)).tolist() for item in judged]

    return rank


def blender_side(ranker: str, batch_size: int) -> Rank:
    """Rank scores by LLM-Blender's own code."""
    from transformers.utils import hub

    hub.TRANSFORMERS_CACHE = "unused"  # an import of llm-blender's; transformers 5 has no such name
    import llm_blender
    from llm_blender.pair_ranker import collator

    def encode_texts(texts: list[str], tokenizer: Any, max_length: int | None = None) -> tuple[Any, Any]:
        found = tokenizer(texts, max_length=max_length, padding="max_length", return_tensors="pt", truncation=True)
        return found["input_ids"], found["attention_mask"]

    collator.encode_texts = encode_texts  # the same body; `batch_encode_plus` is a plain call in transformers 5
    blender = llm_blender.Blender()
    blender.loadranker(ranker, device="cpu")

    def rank(lines: Sequence[dict[str, Any]]) -> list[list[float]]:
        inputs, candidates = [line["prompt"] for line in lines], [line["responses"] for line in lines]
        scores = blender.rank(inputs, candidates, return_scores=True, batch_size=batch_size, disable_tqdm=True)
        return [list(map(float, row)) for row in scores]

    return rank


def work(side: str, ranker: str) -> None:
    """A side's process: prompts come in as lines of JSON, scores, seconds and the peak of memory go out."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    import torch

    threads = torch.get_num_threads()
    if side.startswith("fairplay"):
        rank = fairplay_side(ranker, "one" if side.endswith("one order") else "both")
    else:
        rank = blender_side(ranker, int(side.rpartition(" ")[2]))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    print(json.dumps({"peak_mib": _peak()}), file=answers, flush=True)
    for line in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        scores = rank(json.loads(line))
        told = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu, "peak_mib": _peak()}
        print(json.dumps({**told, "scores": scores}), file=answers, flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, prompts: Sequence[dict[str, Any]], turn: int, pythons: dict[str, str]) -> dict[str, Any]:
    """Every side on all prompts, `turn` prompts at a time."""
    sides = {}
    for side in SIDES:
        command = [pythons[side], __file__, "--side", side, "--ranker", str(folder / "ranker")]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        sides[side] = process
    found: dict[str, Any] = {side: {"seconds": 0.0, "cpu_seconds": 0.0, "scores": []} for side in SIDES}
    for side, process in sides.items():
        found[side]["loaded_mib"] = _answer(side, process)["peak_mib"]
        _ask(process, prompts[:1])  # warms up; not counted
        _answer(side, process)
    for start in range(0, len(prompts), turn):
        for side, process in sides.items():
            _ask(process, prompts[start : start + turn])
            told = _answer(side, process)
            for name in ("seconds", "cpu_seconds"):
                found[side][name] += told[name]
            found[side]["scores"] += told["scores"]
            found[side]["peak_mib"] = told["peak_mib"]
            print(
                f"{min(start + turn, len(prompts))} of {len(prompts)} prompts, {side}: {told['seconds']:.1f} s",
                flush=True,
            )
    for process in sides.values():
        process.stdin.close()
        process.wait()
    return found


def _ask(process: Any, prompts: Sequence[dict[str, Any]]) -> None:
    process.stdin.write(json.dumps(prompts) + "\n")
    process.stdin.flush()


def _answer(side: str, process: Any) -> dict[str, Any]:
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{side} did not answer; is llm-blender 0.0.2 in the environment of --peer-python?")
    answer: dict[str, Any] = json.loads(line)
    return answer


def summarise(found: dict[str, Any], num_prompts: int) -> dict[str, Any]:
    """Ratios to our time, and whether the scores are the same: exact where nothing hangs on a batch."""
    ours = found["fairplay"]
    pairs = num_prompts * NUM_RESPONSES * (NUM_RESPONSES - 1)
    sides = {
        side: {
            "pairs_per_second": pairs / told["seconds"],
            "our_speed_up": told["seconds"] / ours["seconds"],
            "our_speed_up_in_cpu_time": told["cpu_seconds"] / ours["cpu_seconds"],
            "peak_mib": told["peak_mib"],
            "loaded_mib": told["loaded_mib"],
            "largest_difference_of_scores": max(
                abs(a - b)
                for mine, theirs in zip(ours["scores"], told["scores"], strict=True)
                for a, b in zip(mine, theirs, strict=True)
            ),
        }
        for side, told in found.items()
    }
    scores = [score for row in ours["scores"] for score in row]
    spread = max(scores) - min(scores)
    return {"num_prompts": num_prompts, "num_ordered_pairs": pairs, "spread_of_scores": spread, "sides": sides}


def main() -> None:
    """Read the options, measure, and tell; or be a side's process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has llm-blender")
    parser.add_argument("--quick", action="store_true", help="a small backbone and few prompts, for a try")
    parser.add_argument("--num-prompts", type=int, default=0, help="16, or 4 with --quick")
    parser.add_argument("--longest", type=int, default=400, help="words of the longest prompts and responses")
    parser.add_argument("--turn", type=int, default=8, help="prompts that a side ranks before the next one's turn")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--ranker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, options.ranker)
        return
    num_prompts = options.num_prompts or (4 if options.quick else 16)
    pythons = {side: sys.executable if side.startswith("fairplay") else options.peer_python for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        make_ranker(Path(name), "quick" if options.quick else "base")
        found = measure(Path(name), make_prompts(num_prompts, options.longest), options.turn, pythons)
    size = {"size": "quick" if options.quick else "base", "longest": options.longest}
    summary = size | summarise(found, num_prompts)
    for side, told in summary["sides"].items():
        print(side, {name: float(f"{value:.4g}") for name, value in told.items()})
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
