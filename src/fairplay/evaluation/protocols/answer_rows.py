"""Answers in the forms of the benchmarks' own files: AlpacaEval, Arena-Hard (v2.0 and v0.1), MT-Bench.

Left out: generating and writing them (`pipeline/answers.py`). Floor 5; pure. Time stamps are 0 and ids are hashes, so
that the same answers give the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fairplay.records import Response, ResponseGroup
from fairplay.storage.digests import sha256_value

_ID_DIGITS = 22


def alpaca_eval_row(group: ResponseGroup, *, model: str, dataset: str) -> dict[str, Any]:
    """A row of `model_outputs.json`."""
    return {
        "instruction": group.prompt.messages[-1].content,
        "output": group.responses[0].text,
        "generator": model,
        "dataset": dataset,
    }


def arena_hard_row(question: Mapping[str, Any], response: Response, *, model: str) -> dict[str, Any]:
    """A row of Arena-Hard's `model_answer/MODEL.jsonl`, in the form of the version whose question it answers."""
    if "uid" in question:
        turns = [
            {"role": "user", "content": question["prompt"]},
            {"role": "assistant", "content": {"answer": response.text}},
        ]
        own = {"uid": question["uid"], "ans_id": _id(model, question["uid"], response.text), "model": model}
        return {**own, "messages": turns, "tstamp": 0.0, "metadata": {}}
    turn = {"content": response.text, "token_len": len(response.token_ids)}
    return _choices(str(question["question_id"]), [turn], model=model)


def arena_hard_prompt(question: Mapping[str, Any]) -> tuple[str, str]:
    """Id and text of a question of either version.

    Raises:
        KeyError, TypeError, IndexError: If it is none.
    """
    if "uid" in question:
        return str(question["uid"]), str(question["prompt"])
    return str(question["question_id"]), str(question["turns"][0]["content"])


def mt_bench_row(question_id: str, turns: Sequence[str], *, model: str) -> dict[str, Any]:
    """A row of MT-Bench's `model_answer/MODEL.jsonl`."""
    return _choices(question_id, list(turns), model=model)


def _choices(question_id: str, turns: list[Any], *, model: str) -> dict[str, Any]:
    told: str | int = int(question_id) if question_id.isdigit() else question_id
    own = {"question_id": told, "answer_id": _id(model, question_id, turns), "model_id": model}
    return {**own, "choices": [{"index": 0, "turns": turns}], "tstamp": 0.0}


def _id(*parts: object) -> str:
    return sha256_value(list(parts))[:_ID_DIGITS]
