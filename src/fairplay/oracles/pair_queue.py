"""The queue of ordered pairs: all pairs of many prompts, each read once, sorted by length and packed by token budget.

Pairs of different prompts share a batch; what a pair gets depends on nothing but its own row. Left out: what a row is
made of (`pair_encoding.py`, `ranker_encoding.py`), who reads it (`pair_oracle.py`, `pair_ranker.py`), and commits to
disk (`storage/shards.py`, some prompts at a time). Floor 4.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from fairplay.oracles.batching import length_batches
from fairplay.oracles.pair_encoding import EncodedTexts
from fairplay.preferences.win_matrix import group_logits
from fairplay.progress import progress
from fairplay.records import Message, PreferenceGroup, Prompt, ResponseGroup
from fairplay.seeds import stable_seed

E = TypeVar("E", bound=EncodedTexts)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class PairReader(Protocol[E, R_co]):
    """What a pair oracle reads: a prompt and texts as token ids, and two of the texts as one row."""

    def encode(self, prompt: Prompt, texts: Sequence[str]) -> E: ...

    def row(self, encoded: E, first: int, second: int) -> R_co: ...

    def row_length(self, encoded: E, first: int, second: int) -> int: ...


class _Pair(NamedTuple):
    """Two texts of a prompt in the order in which they are shown; numbers of the prompt and of its texts."""

    prompt: int
    first: int
    second: int


class _Known(NamedTuple, Generic[E]):
    """A prompt of the queue as it is read, whichever groups ask about it.

    Attributes:
        number: Its place in the queue.
        encoded: Prompt and texts as token ids.
        text_of: The number of each text.
        place_of: The number under which each text is read: the same for texts that are cut to the same tokens.
    """

    number: int
    encoded: E
    text_of: Mapping[str, int]
    place_of: Mapping[str, int]


def judge_pairs(
    groups: Sequence[ResponseGroup],
    reader: PairReader[E, R],
    logits_of: Callable[[Sequence[R]], Tensor],
    *,
    max_tokens: int,
    orders: str = "both",
    num_anchors: int = 0,
    read_equal_texts: bool = False,
) -> list[PreferenceGroup]:
    """The pair logits of each group.

    Args:
        groups: Responses by prompt; K may differ.
        reader: Makes the rows.
        logits_of: Logits that the first response of each row beats its second, [rows].
        max_tokens: Tokens of one forward pass, padding included.
        orders: A name in `kinds.base.ORDERS`; with `one`, the other order of a pair is None.
        num_anchors: Responses of each prompt with which all others are compared, drawn by a hash; pairs without one of
            them are None both ways. 0 compares all pairs.
        read_equal_texts: Whether two responses that read equal are read too, for what the order alone is worth; else,
            and always with `one`, they have a logit of 0 both ways.

    Returns:
        One judged group for each, in the same order.

    Raises:
        DataError: If a logit is not a finite number; the message names the prompt.
    """
    known = _encode(groups, reader)
    reads_equal = read_equal_texts and orders == "both"
    anchors = [drawn_anchors(group, num_anchors) for group in groups]
    wanted = [
        _pairs_to_read(group, known[group.prompt.messages], some, orders, reads_equal)
        for group, some in zip(groups, anchors, strict=True)
    ]
    queue = list(dict.fromkeys(pair for pairs in wanted for pair in pairs.values()))
    logits = _read(queue, [prompt.encoded for prompt in known.values()], reader, logits_of, max_tokens)
    return [
        _judged(group, known[group.prompt.messages], some, pairs, logits)
        for group, some, pairs in zip(groups, anchors, wanted, strict=True)
    ]


def drawn_anchors(group: ResponseGroup, num_anchors: int) -> tuple[int, ...]:
    """The responses with which all others are compared, in order; empty where that makes all pairs.

    Drawn by place, so that anchors are samples of the policy as all others are: a win rate against them is an unbiased
    estimate of the one against the policy.
    """
    count = len(group.responses)
    if num_anchors == 0 or num_anchors >= count - 1:
        return ()
    words = [message.content for message in group.prompt.messages]
    drawn = sorted(range(count), key=lambda place: (stable_seed("anchors", *words, "response", place), place))
    return tuple(sorted(drawn[:num_anchors]))


def _encode(groups: Sequence[ResponseGroup], reader: PairReader[E, R]) -> dict[tuple[Message, ...], _Known[E]]:
    prompts: dict[tuple[Message, ...], Prompt] = {}
    texts: dict[tuple[Message, ...], dict[str, int]] = {}
    for group in groups:
        prompts.setdefault(group.prompt.messages, group.prompt)
        of_prompt = texts.setdefault(group.prompt.messages, {})
        for response in group.responses:
            of_prompt.setdefault(response.text, len(of_prompt))
    known = {}
    for number, (messages, prompt) in enumerate(prompts.items()):
        encoded = reader.encode(prompt, list(texts[messages]))
        first_with: dict[tuple[int, ...], int] = {}
        places = {
            text: first_with.setdefault(ids, place)
            for place, (text, ids) in enumerate(zip(texts[messages], encoded.text_ids, strict=True))
        }
        known[messages] = _Known(number, encoded, texts[messages], places)
    return known


def _pairs_to_read(
    group: ResponseGroup, prompt: _Known[E], anchors: tuple[int, ...], orders: str, reads_equal: bool
) -> dict[tuple[int, int], _Pair]:
    """What is read for which entries of the group's matrix."""
    texts = [response.text for response in group.responses]
    pairs = {}
    for i, j in combinations(range(len(texts)), 2):
        first, second = prompt.place_of[texts[i]], prompt.place_of[texts[j]]
        if (first == second and not reads_equal) or not _is_asked(anchors, i, j):
            continue
        is_first = orders == "one" and _is_shown_first(group.prompt, texts[i], texts[j])
        if orders == "both" or is_first:
            pairs[i, j] = _Pair(prompt.number, first, second)
        if orders == "both" or not is_first:
            pairs[j, i] = _Pair(prompt.number, second, first)
    return pairs


def _is_asked(anchors: tuple[int, ...], i: int, j: int) -> bool:
    return not anchors or i == j or i in anchors or j in anchors


def _is_shown_first(prompt: Prompt, text: str, other: str) -> bool:
    """Whether `text` comes first where a pair is read in one order only: a coin tossed by what is read alone."""
    low, high = sorted((text, other))
    seed = stable_seed("pair order", *(message.content for message in prompt.messages), "responses", low, high)
    return (seed % 2 == 0) == (text == low)


def _read(
    queue: Sequence[_Pair],
    encoded: Sequence[E],
    reader: PairReader[E, R],
    logits_of: Callable[[Sequence[R]], Tensor],
    max_tokens: int,
) -> dict[_Pair, float]:
    logits: dict[_Pair, float] = {}
    lengths = [reader.row_length(encoded[pair.prompt], pair.first, pair.second) for pair in queue]
    with progress("ranking pairs", len(queue)) as counter:
        for batch in length_batches(lengths, max_tokens=max_tokens):
            pairs = [queue[index] for index in batch]
            rows = [reader.row(encoded[pair.prompt], pair.first, pair.second) for pair in pairs]
            logits.update(zip(pairs, logits_of(rows).tolist(), strict=True))
            counter.advance(len(batch))
    return logits


def _judged(
    group: ResponseGroup,
    prompt: _Known[E],
    anchors: tuple[int, ...],
    pairs: Mapping[tuple[int, int], _Pair],
    logits: Mapping[_Pair, float],
) -> PreferenceGroup:
    texts = [response.text for response in group.responses]

    def logit(i: int, j: int) -> float | None:
        if (i, j) in pairs:
            return float(logits[pairs[i, j]])
        is_equal = prompt.place_of[texts[i]] == prompt.place_of[texts[j]]
        return 0.0 if is_equal and _is_asked(anchors, i, j) else None

    numbers = range(len(texts))
    judged = PreferenceGroup(
        group,
        tuple(tuple(logit(i, j) for j in numbers) for i in numbers),
        tuple(prompt.encoded.text_truncated[prompt.text_of[text]] for text in texts),
        prompt.encoded.prompt_truncated,
        anchors,
    )
    group_logits(judged)
    return judged
