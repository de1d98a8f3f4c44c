"""Parts of the client by themselves: what a server asks to wait, how the throttle moves, and what redacts a key."""

import json
import threading
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairplay.errors import ResourceError, SettingsError
from fairplay.records import Message
from fairplay.servers.cache import open_cache
from fairplay.servers.faults import reply_fault, retry_after, status_fault
from fairplay.servers.keys import redactor
from fairplay.servers.outcomes import Choice, Reply
from fairplay.servers.replies import MalformedReplyError, parse_reply, reply_json
from fairplay.servers.requests import ChatRequest, request_key
from fairplay.servers.settings import ServerSettings, is_loopback
from fairplay.servers.throttle import StoppedError, Throttle


def json_escape(character):
    return f"\\{character}" if character in '"/\\' else character


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7.0),
        ("0.25", 0.25),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("", 0.0),
    ],
)
def test_the_wait_a_server_asks_for_is_read_in_both_forms(given, seconds):
    assert retry_after({"retry-after": given} if given else {}, now=NOW) == pytest.approx(seconds, abs=1)


def test_the_wait_may_be_told_in_milliseconds():
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}, now=NOW) == 0.25


@pytest.mark.parametrize(
    ("status", "text", "again", "fatal"),
    [
        (429, "", True, False),
        (429, '{"error": {"code": "insufficient_quota", "message": "no money"}}', False, True),
        (408, "", True, False),
        (409, "", True, False),
        (500, "<html>", True, False),
        (529, "", True, False),
        (400, '{"error": "bad"}', False, False),
        (401, "", False, True),
        (403, "[1]", False, False),
        (404, "", False, True),
        (422, "{}", False, False),
    ],
)
def test_which_status_is_tried_again_and_which_ends_all(status, text, again, fatal):
    fault = status_fault(status, {}, text)
    assert (fault.again, fault.fatal) == (again, fatal)


def test_the_throttle_adds_one_for_a_round_and_halves_once_for_an_episode():
    throttle = Throttle(16)
    for _ in range(4):
        throttle.leave(throttle.enter(), clean=True)
    assert 4.5 < throttle.limit < 5.1
    throttle.limit = 8.0
    began = [throttle.enter() for _ in range(4)]
    for moment in began:
        throttle.leave(moment, clean=False, overloaded=True)
    assert throttle.limit == 4.0
    throttle.leave(throttle.enter(), clean=False, overloaded=True)
    assert throttle.limit == 2.0


def test_whoever_waits_is_told_when_the_work_is_called_off():
    throttle = Throttle(1)
    throttle.enter()
    told = []

    def wait():
        try:
            throttle.enter()
        except StoppedError:
            told.append("stopped")

    thread = threading.Thread(target=wait)
    thread.start()
    throttle.stop()
    thread.join(5)
    assert told == ["stopped"]
    with pytest.raises(StoppedError):
        throttle.sleep(60)


PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=5)
SPELLINGS = st.sampled_from((str, lambda c: f"\\u{ord(c):04x}", lambda c: f"\\u{ord(c):04X}", json_escape))


@given(
    key=st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=12, max_size=30
    ),
    around=st.tuples(PLAIN, PLAIN),
    spellings=st.lists(SPELLINGS, min_size=30, max_size=30),
    depth=st.integers(0, 2),
)
def test_no_spelling_of_json_brings_a_key_back(key, around, spellings, depth):
    told = "".join(
        json_escape(c) if (c, spell) == ('"', str) else spell(c) for c, spell in zip(key, spellings, strict=False)
    )
    raw = f'"{json.dumps(around[0])[1:-1]}{told}{json.dumps(around[1])[1:-1]}"'
    for _ in range(depth):  # an error that quotes the error of another server
        raw = json.dumps(raw)
    read = redactor(key)(raw)
    for _ in range(depth + 1):
        assert key not in read
        read = json.loads(read)
    assert key not in read
    assert "[key]" in read


def test_redacting_takes_no_longer_for_a_body_of_backslashes():
    body = "\\" * 2_000_000
    assert redactor("s" * 12)(body) == body
    assert redactor("/" * 12)(body) == body


def test_a_dummy_is_no_key():
    assert redactor("EMPTY")("it is EMPTY") == "it is EMPTY"


def test_a_key_covers_what_is_asked_and_not_how_patiently():
    request = ChatRequest((Message("user", "hi"),), max_tokens=5)
    base = ServerSettings("m", "http://127.0.0.1:1/v1")
    patient = ServerSettings("m", "http://127.0.0.1:1/v1", timeout=9, max_attempts=1, cache="c", max_total_tokens=9)
    assert request_key(request, base) == request_key(request, patient)
    others = [
        request_key(ChatRequest((Message("user", "hi"),), max_tokens=6), base),
        request_key(ChatRequest((Message("user", "hi"),), max_tokens=5, temperature=1), base),
        request_key(ChatRequest((Message("user", "hi"),), max_tokens=5, repeat=1), base),
        request_key(ChatRequest((Message("system", "hi"),), max_tokens=5), base),
        request_key(request, ServerSettings("n", "http://127.0.0.1:1/v1")),
        request_key(request, ServerSettings("m", "http://127.0.0.1:2/v1")),
        request_key(request, ServerSettings("m", "http://127.0.0.1:1/v1", extra_body={"top_k": 1})),
    ]
    assert len({request_key(request, base), *others}) == 1 + len(others)


GOOD = '{"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}, "logprobs": L}]}'
TOKEN = '{"token": "hi", "logprob": -1.5, "top_logprobs": [{"token": "ho", "logprob": -Infinity}]}'


def test_a_reply_survives_the_cache_with_its_log_probs():
    reply = parse_reply(GOOD.replace("L", f'{{"content": [{TOKEN}]}}'), 1)
    assert reply.choices[0].positions[0].top == (("ho", float("-inf")),)
    assert parse_reply(reply_json(reply), 1) == reply


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "[]",
        "{}",
        '{"choices": {}}',
        '{"choices": [1]}',
        '{"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}',
        '{"choices": [{"message": {"content": "x"}}]}',
        GOOD.replace("L", '{"content": [{"token": "hi", "logprob": NaN}]}'),
        GOOD.replace("L", '{"content": [{"token": "hi", "logprob": 2.0}]}'),
        GOOD.replace("L", '{"content": [{"logprob": -2.0}]}'),
        GOOD.replace("L", '{"content": [{"token": "hi", "logprob": -1' + "0" * 400 + "}]}"),
        "[" * 200_000,
        GOOD.replace("L", "[" * 200_000),
        GOOD.replace("L", '{"content": 5}'),
        GOOD.replace("L", '{"content": [5]}'),
    ],
)
def test_what_is_no_reply_is_refused(text):
    with pytest.raises(MalformedReplyError):
        parse_reply(text, 1)


def test_which_hosts_are_this_machine():
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "localhost", "a.localhost"]))
    assert not any(map(is_loopback, ["10.0.0.1", "localhost.example.com", "example.com", ""]))


def test_a_key_in_place_of_the_name_of_its_variable_is_not_repeated():
    with pytest.raises(SettingsError, match="no name of an environment variable") as told:
        ServerSettings("judge", api_key_env="sk-SENTINEL-01234")
    assert "SENTINEL" not in f"{told.value} {told.value.hint}"


def test_a_cache_that_is_a_folder_is_told(tmp_path):
    with pytest.raises(ResourceError, match="Is a directory"):
        open_cache(str(tmp_path))


def test_a_reply_that_was_broken_off_is_quoted_after_why_it_ended():
    reply = Reply((Choice("A\x1b[2J\n", "error"),), "judge", 1, 1)
    fault = reply_fault(reply, ChatRequest((Message("user", "Which?"),), max_tokens=1))
    assert fault.detail == r"the reply ended with `error`: 'A\x1b[2J\n'"
