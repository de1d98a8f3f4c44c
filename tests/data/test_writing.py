"""What is written is read back exactly, whatever characters the texts are made of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairplay.data.reading import read_examples, read_prompts
from fairplay.data.text import dialogue_of
from fairplay.data.writing import write_examples, write_prompts
from fairplay.errors import DataError
from fairplay.records import Message, Prompt, Response, TrainingExample

NASTY = [
    "\u2028",
    "\u2029",
    "\x85",
    "\r\n",
    "\r",
    "\0",
    "\ufeff",
    "\u202e",
    "\u200b",
    "e\u0301",
    "🏳️‍🌈",
    "</s>",
    "\\",
    '"',
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)), max_size=6
).map("".join)
SAID = TEXTS.filter(str.strip)
NUMBERS = st.floats(-1e6, 1e6)


@st.composite
def prompts(draw):
    system = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    turns = [Message(("user", "assistant")[n % 2], draw(SAID)) for n in range(draw(st.sampled_from([1, 3])))]
    return Prompt(draw(SAID), tuple(system + turns))


@st.composite
def examples(draw, kind):
    prompt, name = draw(prompts()), draw(SAID)
    texts = draw(st.lists(SAID, min_size=2, max_size=2 if kind == "pair" else 4, unique=True))
    responses = tuple(Response(text) for text in texts)
    if kind == "supervised":
        return TrainingExample(name, prompt, responses[:1])
    if kind == "unpaired":
        return TrainingExample(name, prompt, responses[:1], labels=(draw(st.booleans()),))
    if kind == "pair":
        numbers = draw(st.sampled_from([(), (2.5, 1.0)]))
        return TrainingExample(name, prompt, responses, ((0, 1),), scores=numbers)
    scores = draw(st.lists(NUMBERS, min_size=len(texts), max_size=len(texts), unique=True))
    pairs = ((scores.index(max(scores)), scores.index(min(scores))),)
    return TrainingExample(name, prompt, responses, pairs, scores=tuple(scores))


ROUND_TRIP = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@ROUND_TRIP
@given(items=st.lists(prompts(), min_size=1, max_size=4, unique_by=(lambda p: p.id, lambda p: p.messages)))
def test_prompts_are_read_back_exactly(tmp_path, items):
    path = tmp_path / "prompts.jsonl"
    assert write_prompts(items, path) == len(items)
    assert path.read_bytes().count(b"\n") == len(path.read_text().splitlines()) == len(items)
    assert read_prompts(path).items == tuple(items)


@pytest.mark.parametrize("kind", ["pair", "unpaired", "supervised", "group"])
@ROUND_TRIP
@given(data=st.data())
def test_examples_are_read_back_exactly(tmp_path, kind, data):
    key = (lambda e: e.id, lambda e: e.prompt.id, lambda e: (e.prompt.messages, e.responses))
    items = data.draw(st.lists(examples(kind), min_size=1, max_size=3, unique_by=key))
    if kind == "pair":  # scores are given for all or for none
        items = [item for item in items if bool(item.scores) == bool(items[0].scores)]
    path = tmp_path / "examples.jsonl"
    write_examples(items, path)
    assert read_examples(path).items == tuple(items)


def test_win_rates_are_read_back_exactly(tmp_path):
    prompt = Prompt("p", (Message("user", "Why?"),))
    pair = TrainingExample("a", prompt, (Response("x"), Response("y")), ((0, 1),), win_rates=(0.9, 0.1))
    group = TrainingExample("b", prompt, tuple(map(Response, "xyz")), ((2, 0),), win_rates=(0.1, 0.5, 0.9))
    for item in (pair, group):
        write_examples([item], tmp_path / f"{item.id}.jsonl")
        assert read_examples(tmp_path / f"{item.id}.jsonl").items == (item,)


def test_a_text_that_looks_like_a_dialogue_stays_a_text(tmp_path):
    text = "\n\nHuman: a\n\nAssistant: b"
    item = TrainingExample("a", Prompt("p", (Message("user", text),)), (Response(text), Response("y")), ((0, 1),))
    write_examples([item], tmp_path / "a.jsonl")
    assert read_examples(tmp_path / "a.jsonl").items == (item,)


@given(turns=st.lists(TEXTS.filter(lambda text: "\n\n" not in text), min_size=2, max_size=6))
def test_a_rendered_hh_dialogue_is_read_back_turn_by_turn(turns):
    speakers = ("Human", "Assistant")
    text = "".join(f"\n\n{speakers[n % 2]}: {said}" for n, said in enumerate(turns))
    assert [turn.content for turn in dialogue_of(text, "chosen")] == turns


def test_a_lone_surrogate_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "prompts.jsonl"
    write_prompts([Prompt("good", (Message("user", "Why?"),))], path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="'bad': lone surrogate"):
        write_prompts([Prompt("bad", (Message("user", "\ud800"),))], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.jsonl"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pairs": ((1, 0),)},
        {"pairs": ((0, 1),), "labels": (True, False)},
        {"pairs": ((0, 1),), "scores": (1.0, 0.0), "win_rates": (1.0, 0.0)},
        {"pairs": ((1, 0),), "scores": (1.0, 0.0)},
        {"scores": (1.0, 0.0)},
    ],
)
def test_what_the_formats_cannot_say_is_refused(tmp_path, fields):
    item = TrainingExample("odd", Prompt("p", (Message("user", "Why?"),)), (Response("x"), Response("y")), **fields)
    with pytest.raises(DataError, match=r"^odd: "):
        write_examples([item], tmp_path / "a.jsonl")


def test_examples_of_several_kinds_are_refused(tmp_path):
    prompt = Prompt("p", (Message("user", "Why?"),))
    single = TrainingExample("a", prompt, (Response("x"),))
    labelled = TrainingExample("b", prompt, (Response("x"),), labels=(True,))
    pair = TrainingExample("c", prompt, (Response("x"), Response("y")), ((0, 1),))
    for odd, items in (("b", [single, labelled]), ("a", [pair, single]), ("c", [single, pair])):
        with pytest.raises(DataError, match=f"^{odd}: "):
            write_examples(items, tmp_path / "a.jsonl")


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_prompts([], tmp_path / "nowhere" / "a.jsonl")
