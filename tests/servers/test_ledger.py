"""Caps hold for a command, whatever number of clients it has and in whatever threads these are made."""

import threading

import pytest

from fairplay.cli import main as command_line
from fairplay.records import Message
from fairplay.servers.client import ChatClient
from fairplay.servers.ledger import Ledger, one_command
from fairplay.servers.outcomes import Reply
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
from servers.fault_server import fault_server

CAPPED = ServerSettings("m", "http://127.0.0.1:1/v1", max_total_tokens=100)
PRICED = {"input_price": 1.0, "output_price": 2.0}


def spend(ledger, tokens):
    """Whether so many tokens could be spent."""
    with ledger.set_aside(tokens, 0) as entry:
        if entry is not None:
            entry.taken = (tokens, 0)
        return entry is not None


def test_what_is_set_aside_counts_until_it_is_settled():
    ledger = Ledger(CAPPED)
    with ledger.set_aside(60, 0) as first:
        assert first is not None
        with ledger.set_aside(30, 10) as second:
            assert second is not None
            second.taken = (5, 5)
        first.taken = (20, 0)
    assert (ledger.spent.prompt_tokens, ledger.spent.completion_tokens) == (25, 5)
    with ledger.set_aside(71, 0) as third:
        assert third is None
    with ledger.set_aside(70, 0) as fourth:
        assert fourth is not None


def test_two_clients_of_a_command_share_the_cap_and_the_next_command_has_its_own():
    def answered(number):
        with ChatClient(ServerSettings("judge", server.url, max_total_tokens=200)) as client:
            asked = [ChatRequest((Message("user", f"{number} {index}"),), max_tokens=5) for index in range(40)]
            outcomes = client.complete(asked)
            accounting = client.accounting()
        replies = sum(isinstance(got, Reply) for got in outcomes)
        assert accounting.prompt_tokens + accounting.completion_tokens == 12 * replies  # its own alone
        return replies

    with fault_server() as server:
        with one_command():
            first, second = answered(1), answered(2)
        with one_command():
            third = answered(3)
        fourth = answered(4)
    assert (first, second) == (16, 0)
    assert third == fourth == 16


def test_the_rest_of_a_cap_is_for_the_next_client():
    with one_command():
        first, second = Ledger(CAPPED), Ledger(CAPPED)
        assert spend(first, 60)
        assert not spend(second, 41)
        assert spend(second, 40)
        assert (first.spent.prompt_tokens, second.spent.prompt_tokens) == (60, 40)


def test_clients_made_in_other_threads_spend_from_the_same_account():
    told = []
    with one_command():
        assert spend(Ledger(CAPPED), 60)
        thread = threading.Thread(target=lambda: told.append(spend(Ledger(CAPPED), 60)))
        thread.start()
        thread.join()
    assert told == [False]


def test_a_block_within_a_command_belongs_to_it():
    with one_command():
        with one_command():
            assert spend(Ledger(CAPPED), 60)
        assert not spend(Ledger(CAPPED), 60)


def test_nothing_is_left_of_a_command_that_failed():
    def command():
        with one_command():
            assert spend(Ledger(CAPPED), 60)
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            command()


@pytest.mark.parametrize(
    "other",
    [
        ServerSettings("other", "http://127.0.0.1:1/v1", max_total_tokens=100),
        ServerSettings("m", "http://127.0.0.1:2/v1", max_total_tokens=100),
        ServerSettings("m", "http://127.0.0.1:1/v1", max_total_tokens=100, **PRICED),
    ],
)
def test_another_model_server_or_price_is_another_account(other):
    with one_command():
        assert spend(Ledger(CAPPED), 60)
        assert spend(Ledger(other), 60)


def test_each_client_keeps_its_own_cap_on_what_all_spend():
    with one_command():
        free = Ledger(ServerSettings("m", "http://127.0.0.1:1/v1"))
        assert spend(free, 90)
        assert not spend(Ledger(CAPPED), 20)
        assert spend(free, 1000)


def test_the_command_line_is_one_command(monkeypatch):
    class Verb:
        def main(self, **_):
            return [spend(Ledger(CAPPED), 60) for _ in range(2)] == [True, False]

    monkeypatch.setattr(command_line, "get_command", lambda app: Verb())
    assert command_line.run(["anything"]) == 1
    assert command_line.run(["anything"]) == 1
