"""Write prompts and training examples as jsonl that the readers give back exactly, text by text.

Left out: token ids, seeds and finish reasons (those stay in a run's own tables; `storage/`). Floor 2.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fairplay.data.drafts import best_worst
from fairplay.errors import DataError
from fairplay.records import Message, Prompt, TrainingExample

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
    return _write(({"id": prompt.id, "prompt": _messages(prompt.messages)} for prompt in prompts), path)


def write_examples(examples: Sequence[TrainingExample], path: Path) -> int:
    """Write pairs, labelled or unlabelled single responses, or K responses with scores or win rates.

    Args:
        examples: The examples, all of one kind, for a file has one set of columns. K responses have the pair
            (best, worst), as the reader derives it.
        path: As for `write_prompts`.

    Returns:
        Number of lines.

    Raises:
        DataError: If an example is of none of these kinds, or a text is not valid Unicode; names the example.
    """
    return _write(_example_rows(examples), path)


def _write(rows: Iterable[dict[str, object]], path: Path) -> int:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with scratch.open("wb") as stream:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n"
                try:
                    stream.write(line.encode())
                except UnicodeEncodeError as error:
                    message = f"{path}: {row['id']!a}: lone surrogate in a text, which UTF-8 can't write"
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


def _example_rows(examples: Sequence[TrainingExample]) -> Iterator[dict[str, object]]:
    """Rows of one form, the first of the forms below that fits the whole data; the same columns in every row."""
    singles = [len(example.responses) == 1 for example in examples]
    are_single = all(singles)
    if not are_single and any(singles):
        raise _not_written(examples[singles.index(not singles[0])], "an example of another kind than the first")
    are_pairs = all(len(example.responses) == 2 and example.pairs == ((0, 1),) for example in examples)
    form = _single_columns if are_single else _pair_columns if are_pairs else _group_columns
    first: set[str] = set()
    for example in examples:
        numbers = example.win_rates or example.scores
        if (example.win_rates and example.scores) or (example.labels and not are_single):
            raise _not_written(example, "labels of several responses, or both win rates and scores,")
        said = {"id": example.id, "prompt_id": example.prompt.id, "prompt": _messages(example.prompt.messages)}
        row = said | form(example, [response.text for response in example.responses], numbers)
        first = first or set(row)
        if set(row) != first:
            raise _not_written(example, "an example of another kind than the first")
        yield row


def _single_columns(example: TrainingExample, texts: list[str], numbers: Sequence[float]) -> dict[str, object]:
    if example.pairs or numbers:
        raise _not_written(example, "one response with scores, win rates or pairs")
    return {"completion": _said(texts[0])} | ({"label": example.labels[0]} if example.labels else {})


def _pair_columns(example: TrainingExample, texts: list[str], numbers: Sequence[float]) -> dict[str, object]:
    names = ("chosen_probs_win", "chosen_probs_lose") if example.win_rates else ("score_chosen", "score_rejected")
    return {"chosen": _said(texts[0]), "rejected": _said(texts[1]), **dict(zip(names, numbers, strict=False))}


def _group_columns(example: TrainingExample, texts: list[str], numbers: Sequence[float]) -> dict[str, object]:
    if len(texts) < 2 or len(numbers) != len(texts) or example.pairs != best_worst(texts, numbers):
        raise _not_written(example, "responses without scores or win rates, or pairs other than (best, worst),")
    return {"responses": texts, "win_rates" if example.win_rates else "scores": list(numbers)}


def _said(text: str) -> list[dict[str, str]]:
    """The response as one message, so that no text is taken for a dialogue."""
    return _messages([Message("assistant", text)])


def _not_written(example: TrainingExample, what: str) -> DataError:
    hint = "a pair, one response, or K responses with scores or win rates can be written"
    return DataError(f"{example.id}: {what} can't be written as preference data", hint=hint)
