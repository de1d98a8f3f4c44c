"""The sample browser's data: as many as a page has room for, in an order that nobody picked, as JSON safe in HTML.

Left out: the browser itself (`templates/report.js`). Floor 5; pure.
"""

import json
from collections.abc import Sequence

from fairplay.reports.contents import ReportContents, Sample
from fairplay.seeds import stable_seed

MAX_SAMPLES = 400
TEXT_BUDGET = 1_000_000
"""Characters for all texts of a page; where they are more, the longest are cut, and the page says by how much."""

_TEXT_LIMITS = (100_000, 50_000, 20_000, 10_000, 5_000, 3_000, 2_000, 1_500, 1_000, 700, 500, 350)
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def choose_samples(contents: ReportContents) -> tuple[Sample, ...]:
    """At most `MAX_SAMPLES` samples in the order of their hashes, so that the first ones shown are a random draw."""

    def key(sample: Sample) -> tuple[int, str]:
        return stable_seed(contents.seed, "report samples", *_identity(sample)), sample.prompt_id

    return tuple(sorted(contents.samples, key=key)[:MAX_SAMPLES])


def samples_json(samples: Sequence[Sample]) -> str:
    """Samples as JSON that can stand inside a `<script>` element, whatever their texts contain."""
    limit = _text_limit(samples)
    document = [_record(sample, limit) for sample in samples]
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    # lone surrogates have no UTF-8 form
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _identity(sample: Sample) -> tuple[int, str, int, str]:
    return sample.iteration, sample.prompt_id, sample.sample, sample.opponent


def _texts(sample: Sample) -> list[str]:
    return [sample.policy_text, sample.opponent_text, *(message.content for message in sample.messages)]


def _text_limit(samples: Sequence[Sample]) -> int:
    """The largest limit on the length of a text that keeps all texts within the budget."""
    sizes = [len(text) for sample in samples for text in _texts(sample)]
    fitting = (limit for limit in _TEXT_LIMITS if sum(min(size, limit) for size in sizes) <= TEXT_BUDGET)
    return next(fitting, _TEXT_LIMITS[-1])


def _record(sample: Sample, limit: int) -> dict[str, object]:
    record: dict[str, object] = {
        "id": f"{stable_seed('sample', *_identity(sample)):016x}",  # for links to a sample
        "prompt": sample.prompt_id,
        "iteration": sample.iteration,
        "messages": [[message.role, *_cut(message.content, limit)] for message in sample.messages],
        "policy": [sample.policy, sample.policy_length, *_cut(sample.policy_text, limit)],
        "opponent": [sample.opponent, sample.opponent_length, *_cut(sample.opponent_text, limit)],
    }
    for verdict in sample.verdicts:
        probs = (verdict.win_prob_first, verdict.win_prob_second, verdict.win_prob)
        record[verdict.role] = [round(prob, 4) for prob in probs]
    return record


def _cut(text: str, limit: int) -> tuple[str, int]:
    """The text's beginning, and how many characters were left out."""
    return text[:limit], max(0, len(text) - limit)
