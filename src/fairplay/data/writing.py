"""Write prompts and training examples as jsonl that the readers give back exactly, text by text.

Left out: token ids, seeds and finish reasons (those stay in a run's own tables; `storage/`). Floor 2.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from fairplay.errors import DataError
from fairplay.records import Message, Prompt, TrainingExample

T = TypeVar("T")
# Python, JavaScript and others take these for line ends; in JSON they may be escaped.
_LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def write_prompts(prompts: Iterable[Prompt], path: Path) -> int:
    """Write prompts as lines of `id` and `prompt` (messages).

    Args:
        prompts: The prompts.
        path: The file, by convention `.jsonl`; replaced as a whole, or left as it was where writing fails.

    Returns:
        Number of lines.

    Raises:
        DataError: If a text is not valid Unicode (a lone surrogate); names the prompt.
    """
    return _write(prompts, path, lambda prompt: prompt.id, _prompt_row)


def write_examples(examples: Iterable[TrainingExample], path: Path) -> int:
    """Write pairs, labelled or unlabelled single responses, or K responses with scores or win rates.

    Args:
        examples: The examples; all of one kind, as the readers ask for.
        path: As for `write_prompts`.

    Returns:
        Number of lines.

    Raises:
        DataError: If an example is of none of these kinds, or a text is not valid Unicode; names the example.
    """
    return _write(examples, path, lambda example: example.id, _example_row)


def _write(items: Iterable[T], path: Path, name: Callable[[T], str], row: Callable[[T], dict[str, object]]) -> int:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with scratch.open("wb") as stream:
            for item in items:
                line = json.dumps(row(item), ensure_ascii=False).translate(_LINE_ENDS) + "\n"
                try:
                    stream.write(line.encode())
                except UnicodeEncodeError as error:
                    message = f"{path}: {name(item)!a}: lone surrogate in a text, which UTF-8 can't write"
                    raise DataError(message, hint="mend the text where it was made") from error
                count += 1
        os.replace(scratch, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _messages(turns: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _prompt_row(prompt: Prompt) -> dict[str, object]:
    return {"id": prompt.id, "prompt": _messages(prompt.messages)}


def _example_row(example: TrainingExample) -> dict[str, object]:
    texts = [response.text for response in example.responses]
    row: dict[str, object] = {
        "id": example.id,
        "prompt_id": example.prompt.id,
        "prompt": _messages(example.prompt.messages),
    }
    if len(texts) == 1 and not (example.pairs or example.scores or example.win_rates):
        labels = {"label": example.labels[0]} if example.labels else {}
        return row | {"completion": _said(texts[0])} | labels
    if example.labels or (example.win_rates and example.scores):
        raise _not_written(example, "labels with several responses, or both scores and win rates")
    numbers = example.win_rates or example.scores
    if len(texts) == 2 and example.pairs == ((0, 1),):
        names = ("chosen_probs_win", "chosen_probs_lose") if example.win_rates else ("score_chosen", "score_rejected")
        sides = {"chosen": _said(texts[0]), "rejected": _said(texts[1])}
        return row | sides | dict(zip(names, numbers, strict=False))
    if not numbers or len(texts) < 2:
        raise _not_written(example, "several responses without scores or win rates")
    return row | {"responses": texts, "win_rates" if example.win_rates else "scores": list(numbers)}


def _said(text: str) -> list[dict[str, str]]:
    """The response as one message, so that no text is taken for a dialogue."""
    return _messages([Message("assistant", text)])


def _not_written(example: TrainingExample, what: str) -> DataError:
    hint = "a pair, one response, or K responses with scores or win rates can be written"
    return DataError(f"{example.id}: {what} can't be written as preference data", hint=hint)
