"""A Ray of others that is not there, is none, or never answers: said in seconds, and stopped by a signal."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from fairplay.cluster.joining import refuse_dead_address, refuse_silent_address
from fairplay.errors import ResourceError


@pytest.fixture
def dead_port():
    """A port that is held, and at which nobody listens."""
    with socket.socket() as held:
        held.bind(("", 0))  # Ray takes this machine's own address for loopback
        yield held.getsockname()[1]


@pytest.fixture
def silent():
    """Somebody who listens, and never says a word."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        listener.settimeout(30)
        yield listener


@pytest.fixture
def current_cluster(monkeypatch, tmp_path):
    """Where Ray looks for `auto`: a file of this test, and no process of anybody."""
    pytest.importorskip("ray")
    from ray._private import services

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_a_given_address_at_which_nobody_listens_is_refused_by_name(current_cluster, dead_port):
    with pytest.raises(ResourceError, match=f"cluster.address=127.0.0.1:{dead_port}.*: nobody listens") as refusal:
        refuse_dead_address(f"127.0.0.1:{dead_port}")
    assert "`ray start --head` on the first machine" in refusal.value.hint
    assert "cluster.address=local" in refusal.value.hint


def test_auto_names_the_file_that_a_cluster_left_behind(current_cluster, dead_port):
    current_cluster.write_text(f"127.0.0.1:{dead_port}\n")
    with pytest.raises(ResourceError, match=f"{current_cluster} .*names 127.0.0.1:{dead_port}.*: nobody listens"):
        refuse_dead_address("auto")


def test_auto_names_the_variable_that_outranks_the_file(current_cluster, dead_port, silent, monkeypatch):
    current_cluster.write_text(f"127.0.0.1:{silent.getsockname()[1]}")
    refuse_dead_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{dead_port}")
    with pytest.raises(ResourceError, match=f"RAY_ADDRESS=127.0.0.1:{dead_port}.*: nobody listens"):
        refuse_dead_address("auto")


def test_auto_without_a_cluster_says_where_it_looked(current_cluster):
    with pytest.raises(ResourceError, match=f"no cluster runs .* neither RAY_ADDRESS nor {current_cluster}") as refusal:
        refuse_dead_address("auto")
    assert "ray start --head" in refusal.value.hint


def test_ray_that_is_not_joined_in_time_is_given_up(current_cluster, silent, monkeypatch):
    monkeypatch.setattr("fairplay.cluster.joining._SECONDS_TO_JOIN", 0.3)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    with pytest.raises(ResourceError, match=f"cluster.address={address}: .*not joined within 0.3 seconds"):
        refuse_silent_address(address)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_that_waits_for_ray(number, silent, tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "my_rule.py").write_text("def score(prompt, text):\n    return float(len(text))\n")
    (tmp_path / "lines.jsonl").write_text('{"id": "a", "prompt": "?", "responses": ["x", "yy"]}\n')
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    options = ("oracle.kind=rule", "oracle.function=my_rule:score", f"cluster.address={address}")
    command = [sys.executable, "-m", "fairplay", "rank", "--input", "lines.jsonl", "--output", "out.jsonl"]
    search = f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}."
    with subprocess.Popen(
        [*command, *(part for one in options for part in ("--set", one))],
        cwd=tmp_path,
        env={**os.environ, "RAY_TMPDIR": str(tmp_path), "PYTHONPATH": search},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for _ in ("is anybody there", "Ray itself"):
                silent.accept()[0].close()
            process.send_signal(number)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 75, told
    assert "stopped while Ray was joined" in told
    assert "resume with: fairplay rank" in told
