"""Local data of all five benchmarks, a few items each, in the layouts in which people keep them."""

import json
import random
from pathlib import Path

import lm_eval
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from models.tiny import WORDS

MMLU = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"


def write_lines(path: Path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def subjects() -> list[str]:
    return [yaml.safe_load(path.read_text())["dataset_name"] for path in sorted(MMLU.glob("mmlu_*.yaml"))]


def write_benchmark_data(folder: Path, *, num_items: int = 6) -> Path:
    draw = random.Random(0)

    def text(length=3):
        return " ".join(draw.choices(WORDS, k=length))

    for split in ("train", "validation"):
        rows = [{"goal": text(), "sol1": text(), "sol2": text(), "label": draw.randint(0, 1)} for _ in range(num_items)]
        write_lines(folder / "piqa" / f"{split}.jsonl", rows)
    for split in ("train", "test"):
        rows = [{"question": text(), "answer": f"{text()} #### {draw.randint(1, 9)}"} for _ in range(num_items)]
        write_parquet(folder / "gsm8k" / "main" / f"{split}-00000-of-00001.parquet", rows)
    for subject in subjects():
        for split, count in (("dev", 5), ("test", 2)):
            rows = [
                {"question": text(), "choices": [text(1) for _ in range(4)], "answer": draw.randint(0, 3)}
                for _ in range(count)
            ]
            write_lines(folder / "mmlu" / subject / f"{split}.jsonl", rows)
    targets = [{"choices": [text(2) for _ in range(3)], "labels": [1, 0, 0]} for _ in range(num_items)]
    rows = [{"question": text(), "mc1_targets": target} for target in targets]
    write_lines(folder / "truthfulqa_mc1" / "multiple_choice" / "validation.jsonl", rows)
    rows = [
        {
            "key": number,
            "prompt": text(),
            "instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"][: 1 + number % 2],
            "kwargs": [{}, {}][: 1 + number % 2],
        }
        for number in range(num_items)
    ]
    write_lines(folder / "ifeval" / "ifeval_input_data.jsonl", rows)
    return folder


def write_punkt(folder: Path) -> Path:
    """NLTK's sentence data with nothing learned in it; enough to split at full stops."""
    place = folder / "tokenizers" / "punkt_tab" / "english"
    place.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (place / name).write_text("")
    return folder
