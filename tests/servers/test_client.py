"""The client against a real server on this machine that fails as it is told to."""

import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback

import pytest

from fairplay.errors import Preempted, ResourceError, ServiceError, SettingsError
from fairplay.records import Message
from fairplay.servers import client as client_module
from fairplay.servers.client import ChatClient
from fairplay.servers.outcomes import FAILURES, Failure, Reply
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
from servers.fault_server import fault_server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.01)


def ask(text, **sampling):
    return ChatRequest((Message("user", text),), max_tokens=sampling.pop("max_tokens", 5), **sampling)


def settings_of(server, **settings):
    return ServerSettings("judge", server.url, **{"timeout": 1.0, "max_attempts": 3, **settings})


def client_of(server, **settings):
    return ChatClient(settings_of(server, **settings))


EVERY_CLASS = {
    "[ok]": None,
    "[429,ok]": None,
    "[503,ok]": None,
    "[html,ok]": None,
    "[reset,ok]": None,
    "[429]": "rate limited",
    "[429long]": "rate limited",
    "[500]": "server error",
    "[stall]": "timed out",
    "[drip]": "timed out",
    "[500drip]": "server error",
    "[reset]": "lost connection",
    "[400]": "refused",
    "[400deep]": "refused",
    "[deep]": "malformed reply",
    "[filter]": "refused",
    "[html]": "malformed reply",
    "[null]": "malformed reply",
    "[upstream,ok]": None,
    "[upstream]": "broken-off reply",
    "[abort]": "broken-off reply",
    "[tools]": "broken-off reply",
    "[MAX]": "broken-off reply",
    "[cut]": "cut reply",
    "[nologprobs]": "no log-probs",
    "[few]": "fewer choices than asked for",
}


def test_every_class_of_failure_is_counted_and_nothing_else_is_lost():
    with fault_server() as server, client_of(server, max_attempts=2, timeout=1.5) as client:
        asked = [ask(text, top_logprobs=2, num_choices=2, must_end=True) for text in EVERY_CLASS]
        outcomes = client.complete(asked)
        told = {text: getattr(got, "reason", None) for text, got in zip(EVERY_CLASS, outcomes, strict=True)}
        accounting = client.accounting()
    assert told == EVERY_CLASS
    assert accounting.requested == len(EVERY_CLASS) == accounting.ok + sum(accounting.failures.values())
    assert set(accounting.failures) == set(FAILURES) - {"cost cap reached", "no connection"}
    assert accounting.models == {"judge-dated": 6}
    assert accounting.retries["rate limited"] == 2
    assert accounting.retries["timed out"] >= 2


def test_attempts_do_not_multiply():
    with fault_server() as server, client_of(server, max_attempts=3) as client:
        (got,) = client.complete([ask("[500]")])
    assert server.asked["[500]"] == 3 == got.attempts


def test_retry_after_is_waited_for_by_all():
    with fault_server() as server, client_of(server) as client:
        client.complete([ask("[429after,ok]")])
        first = server.times[0]
        client.complete([ask("another")])
    assert all(moment - first >= 0.39 for moment in server.times[1:])


@pytest.mark.parametrize("fatal", ["401", "402", "404", "429quota"])
def test_what_no_request_can_mend_ends_the_work_at_once(fatal):
    with (
        fault_server() as server,
        client_of(server, max_concurrency=2) as client,
        pytest.raises(ServiceError, match=fatal[:3]),
    ):
        client.complete([ask(f"[{fatal}] {index}") for index in range(50)])
    assert len(server.asked) < 40


def test_a_server_that_is_gone_ends_the_work():
    with fault_server() as server:
        url = server.url
    with (
        ChatClient(ServerSettings("judge", url, max_attempts=1)) as client,
        pytest.raises(ServiceError, match="20 requests in a row failed, the last one no connection"),
    ):
        client.complete([ask(f"{index}") for index in range(60)])


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ("500", "look at its log"),
        ("429", "max_concurrency"),
        ("html", "not as a chat server does: is `base_url` right"),
    ],
)
def test_the_hint_after_many_lost_requests_belongs_to_what_they_were_lost_by(fault, hint):
    with (
        fault_server() as server,
        client_of(server, max_attempts=1) as client,
        pytest.raises(ServiceError, match="20 requests in a row failed") as told,
    ):
        client.complete([ask(f"[{fault}] {index}") for index in range(60)])
    assert hint in told.value.hint
    assert "is the server running" not in told.value.hint


def test_lost_requests_are_counted_over_all_calls_and_only_a_reply_starts_anew():
    with fault_server() as server, client_of(server, max_attempts=1) as client:
        client.complete([ask(f"[500] {index}") for index in range(12)])
        client.complete([ask("[400] no reply"), ask("[ok]")])
        client.complete([ask(f"[html] {index}") for index in range(12)])
        client.complete([ask("[400] no reply either")])
        with pytest.raises(ServiceError, match="20 requests in a row failed"):
            client.complete([ask(f"[500] once more {index}") for index in range(12)])


@pytest.mark.parametrize("status", ["400", "403"])
def test_what_is_refused_whatever_is_asked_ends_the_work_in_the_servers_own_words(status):
    with fault_server() as server, client_of(server, max_concurrency=2) as client:
        server.always = status
        for start in range(0, 18, 6):  # shard by shard
            client.complete([ask(f"{start + index}", max_tokens=7) for index in range(6)])
        with pytest.raises(ServiceError, match=r"20 requests in a row were refused.*harmless") as told:
            client.complete([ask(f"last {index}", max_tokens=7) for index in range(200)])
        assert f"status {status}: {status}, said to" in told.value.message
        harmless = [body for body in server.bodies if "hello" in body["messages"][-1]["content"]]
    assert len(server.asked) < 100  # what was on its way goes out
    assert [body["max_tokens"] for body in harmless] == [7]


def test_one_prompt_that_a_filter_refuses_with_all_its_pairs_does_not_end_the_work(tmp_path):
    asked = [ask(f"[400] pair {index} of what is filtered") for index in range(45)] + [ask("[ok] another")]
    for _ in range(2):  # and neither when the rest is in the cache
        with fault_server() as server, client_of(server, cache=str(tmp_path / "c"), identity="one") as client:
            outcomes = client.complete(asked)
            accounting = client.accounting()
        assert [isinstance(got, Reply) for got in outcomes] == [False] * 45 + [True]
        assert accounting.requested == 46
        assert 1 <= server.asked["Please say hello."] <= 2


def test_a_server_without_log_probs_ends_the_work_after_its_first_replies():
    settings = {"max_concurrency": 2, "max_attempts": 1}
    with fault_server() as server, ChatClient(settings_of(server, **settings), log_probs_hint="set it so") as client:
        client.complete([ask(f"[nologprobs] {index}", top_logprobs=2) for index in range(5)])
        client.complete([ask("[ok] log-probs are not asked for")])
        with pytest.raises(ServiceError, match=r"tells no log-probs of judge.*first 8 replies") as told:
            client.complete([ask(f"[nologprobs] more {index}", top_logprobs=2) for index in range(100)])
    assert told.value.hint == "set it so"
    assert len(server.asked) < 60  # what was on its way goes out


def test_a_server_that_told_log_probs_before_may_leave_some_out():
    with fault_server() as server, client_of(server) as client:
        asked = [ask("[ok]", top_logprobs=2), *(ask(f"[nologprobs] {index}", top_logprobs=2) for index in range(20))]
        client.complete(asked[:1])
        client.complete(asked)
    assert client.accounting().failures == {"no log-probs": 20}


def test_overload_halves_what_is_in_flight_and_calm_lets_it_grow():
    with fault_server() as server, client_of(server, max_concurrency=8) as client:
        server.delay = 0.02
        client.complete([ask(f"calm {index}") for index in range(60)])
        assert 4 < server.most_in_flight <= 8
        grown = client._throttle.limit
        client.complete([ask(f"[429,ok] {index}") for index in range(4)])
        assert client._throttle.limit < grown


def test_a_cap_on_tokens_is_never_passed_and_says_what_was_not_sent(tmp_path):
    settings = {"max_total_tokens": 100, "cache": str(tmp_path / "cache.sqlite"), "max_concurrency": 4}
    with fault_server() as server, client_of(server, **settings) as client:
        outcomes = client.complete([ask(f"question {index}") for index in range(30)])
        accounting = client.accounting()
        answered = [isinstance(got, Reply) for got in outcomes]
        assert accounting.failures == {"cost cap reached": 30 - sum(answered)}
        assert 80 <= accounting.prompt_tokens + accounting.completion_tokens <= 100
        assert sum(server.asked.values()) == sum(answered)
        with client_of(server, **(settings | {"max_total_tokens": 0})) as richer:
            assert all(isinstance(got, Reply) for got in richer.complete([ask(f"question {i}") for i in range(30)]))
            assert richer.accounting().cached == sum(answered)
    assert set(server.asked.values()) == {1}


def test_a_cap_in_money_counts_by_the_prices():
    prices = {"input_price": 1e6, "output_price": 2e6, "max_cost": 60.0}
    with fault_server() as server, client_of(server, **prices) as client:
        client.complete([ask(f"{index}") for index in range(10)])
        accounting = client.accounting()
    assert accounting.cost == accounting.prompt_tokens + 2 * accounting.completion_tokens
    assert 0 < accounting.cost <= 60


def test_an_estimate_sends_nothing_and_knows_what_is_answered(tmp_path):
    with fault_server() as server, client_of(server, cache=str(tmp_path / "c")) as client:
        client.complete([ask("known")])
        told = client.estimate([ask("known"), ask("new"), ask("new"), ask("other")])
    assert (told.requests, told.cached, told.to_send) == (4, 1, 2)
    assert told.prompt_tokens > 0
    assert told.completion_tokens == 10
    assert sum(server.asked.values()) == 1


def test_equal_questions_are_asked_once_and_repeats_on_purpose_are_not_equal(tmp_path):
    with fault_server() as server, client_of(server, cache=str(tmp_path / "c")) as client:
        client.complete([ask("same"), ask("same"), ask("same", repeat=1), ask("same", seed=4)])
        assert server.asked["same"] == 3
        assert client.complete([ask("same", seed=4)])[0].attempts == 0
    assert server.asked["same"] == 3


def test_failures_are_never_kept(tmp_path):
    cache = str(tmp_path / "c")
    with fault_server() as server:
        for expected in (Failure, Reply):
            with client_of(server, cache=cache) as client:
                (got,) = client.complete([ask("[cut,ok]", must_end=True)])
            assert isinstance(got, expected)
    assert server.asked["[cut,ok]"] == 2


def test_a_broken_off_reply_that_an_older_release_kept_is_asked_for_anew(tmp_path):
    path = tmp_path / "c"
    with fault_server() as server:
        with client_of(server, cache=str(path)) as client:
            client.complete([ask("one"), ask("two")])
        with sqlite3.connect(path) as connection:
            connection.execute("""UPDATE replies SET reply = replace(reply, '"stop"', '"error"')""")
        connection.close()
        with client_of(server, cache=str(path)) as client:
            told = client.complete([ask("one"), ask("two")])
            assert [choice.finish_reason for reply in told for choice in reply.choices] == ["stop", "stop"]
            assert client.accounting().cached == 0
    assert server.asked == {"one": 2, "two": 2}


def test_what_a_broken_off_reply_says_is_told_and_what_it_took_is_booked():
    with fault_server() as server, client_of(server, max_attempts=2) as client:
        (got,) = client.complete([ask("[upstream]")])
        assert "`error`" in got.detail
        assert "the upstream is gone" in got.detail
        assert client.accounting().prompt_tokens == 2 * 10


def test_another_checkpoint_behind_the_same_name_is_asked_anew(tmp_path):
    with fault_server() as server:
        for identity in ("one", "two", "two"):
            with client_of(server, cache=str(tmp_path / "c"), identity=identity) as client:
                client.complete([ask("who are you?")])
    assert server.asked["who are you?"] == 2


def test_a_cached_reply_is_the_reply(tmp_path):
    request = ask("\ud83d weird \u2028 text"[1:], top_logprobs=2, num_choices=2)
    with fault_server() as server:
        told = []
        for _ in range(2):
            with client_of(server, cache=str(tmp_path / "c")) as client:
                told.append(client.complete([request])[0])
    assert told[0].choices == told[1].choices
    assert (told[0].attempts, told[1].attempts) == (1, 0)
    assert told[0].choices[0].positions[0].top == (("m", -0.1), ("M", -2.4))


def test_half_a_surrogate_pair_is_one_failure_and_not_the_end():
    with fault_server() as server, client_of(server) as client:
        broken, whole = client.complete([ask("\ud83d"), ask("fine")])
    assert broken.reason == "refused"
    assert isinstance(whole, Reply)


def test_a_file_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "c").write_text("these are not the replies you are looking for, and quite a few of them, too")
    with pytest.raises(ResourceError, match="not a usable cache"):
        ChatClient(ServerSettings("judge", "http://127.0.0.1:1/v1", cache=str(tmp_path / "c")))


def test_being_asked_to_stop_keeps_what_was_answered(tmp_path):
    asked = [ask(f"{index}") for index in range(40)]
    with fault_server() as server, client_of(server, cache=str(tmp_path / "c"), max_concurrency=2) as client:
        server.delay = 0.1
        with pytest.raises(Preempted, match="of 40 requests"):
            client.complete(asked, should_stop=lambda: len(server.asked) > 3)
        before = len(server.asked)
        server.delay = 0.0
        client.complete(asked)
    assert 3 < before < 40
    assert set(server.asked.values()) == {1}


def test_many_threads_and_two_clients_share_one_file(tmp_path):
    def work(start):
        with client_of(server, cache=str(tmp_path / "c"), timeout=60.0) as client:
            told[start] = client.complete([ask(f"{index}") for index in range(start, start + 60)])

    told = {}
    with fault_server() as server:
        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with client_of(server, cache=str(tmp_path / "c")) as client:
            client.complete([ask(f"{index}") for index in range(120)])
            assert client.accounting().cached == 120
    assert set(server.asked.values()) == {1}


KILLED = """
import sys
from fairplay.records import Message
from fairplay.servers.client import ChatClient
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
with ChatClient(ServerSettings("judge", sys.argv[1], cache=sys.argv[2], max_concurrency=4)) as client:
    asked = [ChatRequest((Message("user", str(index)),), max_tokens=5) for index in range(200)]
    print(sum(type(got).__name__ == "Reply" for got in client.complete(asked)))
"""


def test_after_kill_9_only_what_was_in_flight_is_paid_again(tmp_path):
    with fault_server() as server:
        server.delay = 0.02
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "cache" / "c")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(server.asked) < 80 and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        last = subprocess.run(command, capture_output=True, text=True, check=True)
        assert last.stdout == "200\n"
        again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == "200\n"
    assert len(server.asked) == 200
    assert sum(server.asked.values()) <= 200 + 4  # in flight at the kill


def test_a_question_that_was_sent_is_booked_whatever_became_of_the_connection():
    with fault_server() as server, client_of(server, max_attempts=6, max_total_tokens=40) as client:
        (got,) = client.complete([ask("[reset]")])
        assert (got.reason, server.asked["[reset]"]) == ("cost cap reached", 2)
        assert (client.accounting().prompt_tokens, client.accounting().completion_tokens) == (2 * 11, 2 * 5)


def test_a_connection_that_never_was_costs_nothing():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        taken = [_knock(port) for _ in range(4)]  # nobody is let in, so that who comes next waits at the door
        with ChatClient(ServerSettings("judge", f"http://127.0.0.1:{port}/v1", timeout=0.3, max_attempts=2)) as client:
            (waited,) = client.complete([ask("hello?")])
            assert (waited.reason, waited.detail) == ("no connection", "none in time")
            assert client.accounting().prompt_tokens == 0
    for one in taken:
        one.close()
    with ChatClient(ServerSettings("judge", f"http://127.0.0.1:{port}/v1", max_attempts=2)) as client:
        (gone,) = client.complete([ask("hello?")])
        assert gone.reason == "no connection"
        assert client.accounting().prompt_tokens == 0


def _knock(port):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", port))
    return one


@pytest.mark.parametrize("fatal", ["401drip", "500drip"])
def test_an_error_that_drips_is_not_waited_for_longer_than_set(fatal):
    began = time.monotonic()
    with fault_server() as server, client_of(server, max_attempts=1, timeout=0.4) as client:
        if fatal == "401drip":
            with pytest.raises(ServiceError, match="status 401"):
                client.complete([ask(f"[{fatal}]")])
        else:
            (got,) = client.complete([ask(f"[{fatal}]")])
            assert got.detail.startswith("status 500")
        assert time.monotonic() - began < 2.0


SENTINEL = "sk/sentinel=8a1f"


def test_the_key_appears_nowhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", SENTINEL)
    caplog.set_level(logging.DEBUG)
    told = []
    with fault_server() as server:
        with client_of(server, api_key_env="JUDGE_KEY", cache=str(tmp_path / "c"), timeout=0.5) as client:
            for text in EVERY_CLASS | {"[echo]": None}:
                told.append(repr(client.complete([ask(text, top_logprobs=2, num_choices=2)])))
            told += [repr(client), repr(client.settings), repr(client._transport), repr(client.accounting())]
            try:
                client.complete([ask("[401]")])
            except ServiceError as error:
                told += [str(error), "".join(traceback.format_exception(error))]
        assert all(header["authorization"] == f"Bearer {SENTINEL}" for header in server.headers)
    told += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 20
    assert "[key]" in "".join(told)
    assert not [text for text in told if SENTINEL in text]


@pytest.mark.parametrize("key", ["token", "m", "1", "EMPTY"])
def test_a_dummy_for_a_key_changes_no_reply(monkeypatch, key):
    monkeypatch.setenv("JUDGE_KEY", key)
    with fault_server() as server, client_of(server, api_key_env="JUDGE_KEY") as client:
        (got,) = client.complete([ask("[ok]", top_logprobs=2)])
    assert (got.choices[0].text, got.model, got.prompt_tokens) == ("m", "judge-dated", 10)
    assert server.headers[0]["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize(
    "key", [f"{SENTINEL}\n{SENTINEL}", f"“{SENTINEL}”", f"{SENTINEL} x", f"{SENTINEL}\\", f"{SENTINEL}\x7f"]
)
def test_what_can_not_be_a_key_is_refused_by_its_variables_name_alone(monkeypatch, key):
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(SettingsError, match="the variable JUDGE_KEY holds no API key") as told:
        ChatClient(ServerSettings("judge", "http://127.0.0.1:1/v1", api_key_env="JUDGE_KEY"))
    assert "sentinel" not in "".join(traceback.format_exception(told.value))


def test_a_server_on_this_machine_is_never_sent_a_key_for_another(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, SENTINEL)
    with fault_server() as server, client_of(server) as client:
        client.complete([ask("hello")])
    assert SENTINEL not in json.dumps(server.headers)


def test_without_a_key_nothing_is_sent_anywhere(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="OPENAI_API_KEY is not set"):
        ChatClient(ServerSettings("gpt-4.1-2025-04-14"))
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(SettingsError, match="OPENAI_API_KEY is empty"):
        ChatClient(ServerSettings("gpt-4.1-2025-04-14"))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"base_url": "ftp://there"}, "no http address"),
        ({"base_url": "https://user:secret@there/v1"}, "a user, a password or a query"),
        ({"base_url": "http://there/v1"}, "without encryption"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"timeout": 0.0}, "not a positive number"),
        ({"max_attempts": 0}, "less than 1"),
        ({"token_limit_field": "max_token"}, "unknown token limit"),
        ({"extra_body": {"temperature": 1}}, "is set by whoever asks"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings, fault):
    with pytest.raises(SettingsError, match=fault) as told:
        ServerSettings("judge", **settings)
    assert "secret" not in str(told.value)


def test_the_client_loads_without_the_official_library():
    code = "import sys, fairplay.servers.client; print([m for m in ('openai', 'httpx', 'torch') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"
