"""What of Ray's workers can be tested without Ray: rooms on a cluster, where workers meet, what they answer."""

import logging
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fairplay.cluster.executors import open_executor
from fairplay.cluster.meeting import meeting_in
from fairplay.cluster.ray_executor import Account, RayExecutor
from fairplay.cluster.ray_worker import PAYLOAD, Assignment, RemoteWorker, shards_table
from fairplay.cluster.settings import ClusterSettings, Place, place_of
from fairplay.errors import DataError, ResourceError, SettingsError
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.generation.response_work import ResponseWork
from fairplay.generation.settings import GenerationSettings, VllmSettings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.preference_work import PreferenceWork
from fairplay.oracles.settings import EnsembleSettings
from fairplay.records import Dropped
from fairplay.servers.settings import ServerSettings
from fairplay.storage.run_directory import package_versions
from fairplay.storage.shards import HERE, Done, Shard

RULE = RuleSettings(function="oracles.tiny:length_rule")
SERVER = LlmJudgeSettings(server=ServerSettings(model="judge", base_url="http://127.0.0.1:9/v1"))
MODEL = PairModelSettings(model="owner/ranker")


@dataclass(frozen=True)
class Letters:
    """Work that a test can make fail: it counts letters, and says a word about it."""

    fails: str = ""
    asks_server: bool = False
    num_gpus: int = 0

    def start(self):
        if self.fails == "start":
            raise DataError("owner/model: no such model", hint="name another")
        return Counter(self.fails)


class Counter:
    def __init__(self, fails):
        self.fails, self.facts = fails, {"alphabet": "latin"}

    def do(self, items):
        logging.getLogger("fairplay.tests").warning("%d words", len(items))
        if self.fails == "bug":
            return 1 / 0
        if self.fails == "unsendable":
            raise Unsendable(lambda: None)
        return [Dropped(item, str(len(item))) for item in items], ()

    def close(self):
        pass


class Unsendable(Exception):
    """Holds what can't be pickled."""


@pytest.fixture
def settled(monkeypatch, tmp_path):
    """What a worker does to its process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fairplay.progress._hidden", False)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def answers(settled, tmp_path):
    """What a worker answers to two shards."""

    def ask(work, *, retries=3, versions=None, **changes):
        with meeting_in(tmp_path, max_retries=retries) as meeting:
            assignment = replace(Assignment(work, meeting, str(tmp_path), (), logging.INFO), **changes)
            worker = RemoteWorker(pickle.dumps(assignment), versions or package_versions())
            table = shards_table({3: pickle.dumps(["a", "bb"]), 5: pickle.dumps(["ccc"])})
            return [pickle.loads(row[PAYLOAD]) for row in worker(table).to_pylist()]

    return ask


def test_a_worker_answers_with_records_facts_and_what_was_said(answers):
    first, second = answers(Letters())
    assert first.result == Done(3, [Dropped("a", "1"), Dropped("bb", "2")], (), {"alphabet": "latin"})
    assert (second.result.index, second.said) == (5, (("fairplay.tests", logging.WARNING, "1 words"),))


def test_an_error_of_ours_comes_back_as_it_was_raised(answers):
    (answer, _) = answers(Letters(fails="start"))
    assert (type(answer.result), str(answer.result)) == (DataError, "owner/model: no such model\nhint: name another")
    assert answer.result.hint == "name another"


def test_a_bug_comes_back_with_its_class_and_with_where_it_was(answers):
    (answer, _) = answers(Letters(fails="bug"))
    assert (type(answer.result), str(answer.result)) == (ZeroDivisionError, "division by zero")
    assert "return 1 / 0" in answer.result.__notes__[0]
    (answer, _) = answers(Letters(fails="unsendable"))
    assert type(answer.result) is RuntimeError
    assert str(answer.result).startswith("Unsendable: ")


def test_other_versions_on_a_machine_are_refused_by_name(answers):
    (answer, _) = answers(Letters(), versions={**package_versions(), "torch": "1.0"})
    assert isinstance(answer.result, ResourceError)
    assert "torch" in answer.result.message
    assert "not 1.0" in answer.result.message


def test_a_machine_without_the_folder_of_the_command_is_refused(answers, tmp_path):
    (answer, _) = answers(Letters(), directory=str(tmp_path / "nowhere"))
    assert isinstance(answer.result, ResourceError)
    assert "nowhere: is not there on" in answer.result.message


def test_a_worker_that_does_not_see_the_driver_s_folder_does_nothing(answers, tmp_path):
    with meeting_in(tmp_path / "other", max_retries=0) as elsewhere:
        (answer, _) = answers(Letters(), meeting=replace(elsewhere, token="another"))
        assert isinstance(answer.result, ResourceError)
        assert f"{tmp_path / 'other'}: is not the same folder on" in answer.result.message
        assert elsewhere.attempts(3) == []
    assert not (tmp_path / "other" / ".workers").exists()


def test_a_shard_over_which_workers_die_is_given_up_after_so_many(tmp_path):
    with meeting_in(tmp_path, max_retries=2) as meeting:
        for _ in range(3):
            meeting.begin(7)
        with pytest.raises(ResourceError, match=r"shard 7: its worker died 3 times.*on .* \(process \d+\)") as refusal:
            meeting.begin(7)
        assert "batch_size" in refusal.value.hint
        meeting.begin(8)
        assert [len(meeting.attempts(index)) for index in (7, 8, 9)] == [3, 1, 0]


DIES_WHILE_IT_LOADS = """
import os, pickle, signal, sys
from fairplay.cluster.ray_worker import PAYLOAD, Assignment, RemoteWorker, shards_table


class Heavy:
    def start(self):
        os.kill(os.getpid(), signal.SIGKILL)


meeting = pickle.loads(bytes.fromhex(sys.argv[1]))
worker = RemoteWorker(pickle.dumps(Assignment(Heavy(), meeting, os.getcwd(), (), 20)), {})
(row,) = worker(shards_table({4: pickle.dumps(["a"])})).to_pylist()
print(pickle.loads(row[PAYLOAD]).result)
"""


def test_a_worker_that_dies_while_it_loads_its_model_is_begun_anew_only_so_often(tmp_path):
    with meeting_in(tmp_path, max_retries=1) as meeting:
        command = [sys.executable, "-c", DIES_WHILE_IT_LOADS, pickle.dumps(meeting).hex()]
        lives = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(3)]
    assert [life.returncode for life in lives] == [-signal.SIGKILL, -signal.SIGKILL, 0], lives[-1].stderr
    assert "shard 4: its worker died 2 times" in lives[-1].stdout
    assert "memory was too small" in lives[-1].stdout


def test_what_a_killed_driver_left_does_not_count(tmp_path):
    with meeting_in(tmp_path, max_retries=0) as meeting:
        meeting.begin(0)
        with meeting_in(tmp_path, max_retries=0) as later:
            assert later.attempts(0) == []
            with pytest.raises(ResourceError, match="not the same folder"):
                meeting.begin(1)


def test_deaths_are_counted_and_told(tmp_path, caplog):
    account = Account("part", 2, 1)
    with meeting_in(tmp_path, max_retries=2) as meeting:
        for index in (0, 1, 1):
            meeting.begin(index)
        for index in (1, 0):
            account.add(index, meeting.attempts(index))
    assert (account.num_done, account.num_deaths, len(account.nodes)) == (2, 1, 1)
    assert "shard 1: its worker died on" in caplog.text


@pytest.mark.parametrize(
    ("settings", "has", "num_gpus", "place"),
    [
        ({}, (16, 8), 1, Place(8, 1, 1)),
        ({}, (16, 8), 4, Place(2, 1, 4)),
        ({}, (16, 8), 0, Place(1, 1, 0)),
        ({}, (16, 0), 1, Place(1, 1, 0)),
        ({"num_workers": 5, "cpus_per_worker": 3}, (16, 8), 1, Place(5, 3, 1)),
        ({"num_workers": 16}, (16, 0), 1, Place(10, 1, 0)),
    ],
)
def test_there_is_a_worker_for_each_gpu_or_as_many_as_asked_for(settings, has, num_gpus, place):
    cluster = ClusterSettings(address="local", **settings)
    assert place_of(cluster, cpus=has[0], gpus=has[1], num_gpus=num_gpus, num_shards=10) == place


@pytest.mark.parametrize(
    ("has", "num_gpus", "told"), [((4, 8), 1, "5 with 1 CPU each, and the cluster has 4 CPU"), ((9, 8), 2, "8 GPU")]
)
def test_a_cluster_that_is_too_small_is_refused(has, num_gpus, told):
    cluster = ClusterSettings(address="local", num_workers=5)
    with pytest.raises(ResourceError, match=told):
        place_of(cluster, cpus=has[0], gpus=has[1], num_gpus=num_gpus, num_shards=10)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_workers": 2}, "num_workers: without an address"),
        ({"address": "local", "num_workers": -1}, "num_workers: must be at least 0"),
        ({"address": "local", "cpus_per_worker": 0}, "cpus_per_worker: must be at least 1"),
        ({"address": "local", "max_retries": -1}, "max_retries: must be at least 0"),
        ({"address": "ray://head:10001"}, "a client's address"),
    ],
)
def test_settings_that_do_nothing_or_can_t_work_are_refused(changes, told):
    with pytest.raises(SettingsError, match=told):
        ClusterSettings(**changes)


def respond(**settings):
    return ResponseWork("m", GenerationSettings(**settings), ModelSettings(), ())


def test_what_asks_a_server_is_known_and_what_needs_gpus_too():
    both = EnsembleSettings(members=(RULE, SERVER))
    assert [PreferenceWork(oracle).asks_server for oracle in (RULE, MODEL, SERVER, both)] == [False, False, True, True]
    assert [VerdictWork(oracle).num_gpus for oracle in (RULE, MODEL, SERVER, both)] == [0, 1, 0, 0]
    assert VerdictWork(EnsembleSettings(members=(RULE, MODEL))).num_gpus == 1
    engines = [respond(), respond(engine="vllm", vllm=VllmSettings(tensor_parallel_size=4)), respond(engine="openai")]
    assert [(work.asks_server, work.num_gpus) for work in engines] == [(False, 1), (False, 4), (True, 0)]
    assert replace(engines[0], loading=ModelSettings(device="cpu")).num_gpus == 0


def test_a_server_is_asked_from_this_process_whoever_does_the_rest(tmp_path):
    executor = RayExecutor(ClusterSettings(address="auto"), tmp_path / "account")
    shards = [Shard(0, ["a"]), Shard(1, ["bb"])]
    work = Letters(asks_server=True)
    assert list(executor.run(work, shards, tmp_path)) == list(HERE.run(work, shards, tmp_path))
    executor.close()
    assert not (tmp_path / "account").exists()


def test_ray_that_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr("fairplay.cluster.executors.find_spec", lambda name: None)
    with (
        pytest.raises(ResourceError, match="needs the package ray") as refusal,
        open_executor(ClusterSettings(address="local")),
    ):
        pass
    assert refusal.value.hint == "pip install 'fairplay[ray]'"
    with open_executor(ClusterSettings()) as executor:
        assert executor is HERE


def test_no_ray_is_loaded_before_a_shard_is_sent(tmp_path):
    code = f"""
import sys
from fairplay.cluster.executors import open_executor
from fairplay.cluster.settings import ClusterSettings
from pathlib import Path
with open_executor(ClusterSettings(address="local"), Path({str(tmp_path)!r}) / "account"):
    import fairplay.pipeline.settings, fairplay.cli.main
    print([name for name in ("ray", "torch") if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"
    assert not list(Path(tmp_path).iterdir())
