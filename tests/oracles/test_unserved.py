"""What the service failed to answer ends the command and can be had later; what a question is itself, stays missing."""

import sqlite3
import threading

import pytest

from fairplay.errors import Preempted, ResourceError, ServiceError
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.oracles.judge_verdicts import NoVerdict
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.oracles.preference_work import PreferenceWork
from fairplay.oracles.settings import EnsembleSettings
from fairplay.oracles.unserved import SERVICE, refuse_unserved
from fairplay.records import Message, PreferenceGroup, Prompt, Response, ResponseGroup
from fairplay.servers.outcomes import FAILURES
from fairplay.servers.settings import ServerSettings
from fairplay.storage.digests import sha256_files
from fairplay.storage.shards import HERE, read_dropped, read_parts, run_sharded
from servers.fault_server import fault_server
from servers.judges import length_judge


def groups(number, mark=""):
    def texts(index):
        return tuple(Response("w" * (1 + place) + f" {index}{mark}") for place in range(2))

    return [ResponseGroup(Prompt(f"p{i}", (Message("user", f"Question {i}?"),)), texts(i)) for i in range(number)]


def oracle_of(server, **settings):
    own = {"timeout": 2.0, "max_attempts": 1, "max_concurrency": 2, **settings}
    return LlmJudgeSettings(server=ServerSettings("judge", server.url, **own))


def rank(folder, oracle, items, should_stop=lambda: False):
    run_sharded(
        folder,
        items,
        PreferenceWork(oracle),
        PreferenceGroup,
        executor=HERE,
        shard_size=4,
        description="ranking",
        should_stop=should_stop,
    )


def test_every_reason_of_the_service_is_one_that_clients_tell():
    assert set(FAILURES) > SERVICE


@pytest.mark.parametrize("reason", sorted(SERVICE))
def test_a_question_that_the_service_did_not_answer_ends_the_command(reason):
    server = ServerSettings("judge", max_total_tokens=9, cache="kept.sqlite")
    with pytest.raises(ServiceError, match=f"1 of 2 questions without an answer .1 x {reason}.") as caught:
        refuse_unserved([NoVerdict("refused", ""), NoVerdict(reason, "")], server)
    assert "run the same command again; the replies that came are kept in kept.sqlite" in caught.value.hint
    assert ("raise server.max_total_tokens, then" in caught.value.hint) == (reason == "cost cap reached")
    assert "max_cost" not in caught.value.hint


@pytest.mark.parametrize("reason", sorted({*FAILURES} - SERVICE))
def test_a_reason_of_one_question_ends_nothing(reason):
    refuse_unserved([NoVerdict(reason, "")], ServerSettings("judge"))


def test_a_capped_ranking_commits_no_gap_and_once_the_cap_is_raised_asks_what_is_missing(tmp_path):
    with fault_server(length_judge()) as server:
        rank(tmp_path / "whole", oracle_of(server), groups(12))
        server.asked.clear()
        capped = oracle_of(server, max_total_tokens=450, cache=str(tmp_path / "c"))
        with pytest.raises(ServiceError, match="cost cap reached"):
            rank(tmp_path / "parts", capped, groups(12))
        before = server.asked.total()
        assert len(read_parts(tmp_path / "parts", PreferenceGroup)) % 4 == 0
        assert not read_dropped(tmp_path / "parts")
        rank(tmp_path / "parts", oracle_of(server, cache=str(tmp_path / "c")), groups(12))
    assert 0 < before < 24
    assert server.asked.total() == 24
    assert sha256_files(tmp_path / "parts") == sha256_files(tmp_path / "whole")


def test_a_server_that_is_gone_makes_no_gap_either(tmp_path):
    with fault_server() as gone:
        oracle = oracle_of(gone)
    with pytest.raises(ServiceError, match="no connection"):
        rank(tmp_path / "parts", oracle, groups(4))
    assert not list((tmp_path / "parts").glob("part-*"))


def test_an_ensembles_member_tells_why_it_has_no_verdict(tmp_path):
    with fault_server(length_judge()) as server:
        both = EnsembleSettings(members=(oracle_of(server), oracle_of(server)))
        rank(tmp_path / "parts", both, groups(2, mark="<<filter>>"))
    assert [item.reason for item in read_dropped(tmp_path / "parts")] == ["refused", "refused"]
    assert {member.server.cache for member in both.with_cache("c").members} == {"c"}


def test_a_stop_is_seen_inside_a_shard(tmp_path):
    asked = threading.Event()

    def slow(body):
        asked.set()
        return length_judge()(body)

    with fault_server(slow) as server:
        server.delay = 0.3
        oracle = oracle_of(server, cache=str(tmp_path / "c"))
        with pytest.raises(Preempted, match="of 8 requests"):
            rank(tmp_path / "parts", oracle, groups(4), should_stop=asked.is_set)
        before = server.asked.total()
        server.delay = 0.0
        rank(tmp_path / "parts", oracle, groups(4))
    assert before < 8
    assert set(server.asked.values()) == {1}


def test_a_cache_that_cannot_be_read_ends_the_command_and_is_no_missing_verdict(tmp_path):
    path = tmp_path / "c"
    with fault_server(length_judge()) as server:
        worker = VerdictWork(oracle_of(server, cache=str(path))).start()
        assert all(judged.pair_logits[0][1] is not None for judged in worker.do(groups(2))[0])
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE replies SET reply = '{oops'")
        connection.close()
        with pytest.raises(ResourceError, match="damaged"):
            worker.do(groups(3))
