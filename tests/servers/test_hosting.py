"""A server of our own is waited for, and it and all that it started end with us."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from fairplay.errors import ServiceError
from fairplay.servers import hosting
from fairplay.servers.hosting import start_server

SERVE = """
import http.server, os, signal, sys, subprocess, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in sys.argv: subprocess.Popen(["sleep", "600"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if self.path == "/health" else 200)
        self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
PYTHON = [sys.executable, "-S", "-c"]


def command(code, *words):
    return shlex.join([*PYTHON, code, "{model}", "{port}", *words])


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(group):
    for _ in range(200):
        if not is_there(group):
            return
        time.sleep(0.05)
    raise AssertionError("still there")


def test_a_server_is_ready_when_it_returns_and_ends_with_all_that_it_started():
    server = start_server(command(SERVE, "child"), model="m", start_timeout=60)
    assert not server.has_ended
    assert server.url.startswith("http://127.0.0.1:")
    server.stop()
    server.stop()
    wait_until_gone(server.process.pid)


def test_one_that_does_not_listen_to_requests_to_end_is_ended(monkeypatch):
    monkeypatch.setattr(hosting, "TO_STOP", 0.2)
    server = start_server(command(SERVE, "deaf"), model="m", start_timeout=60)
    server.stop()
    assert server.process.returncode == -signal.SIGKILL


def test_one_that_never_serves_is_told_of_with_its_last_words():
    with pytest.raises(ServiceError, match="no server: it ended with 3; no such checkpoint: m") as caught:
        start_server(
            command("import sys; print('no such checkpoint:', sys.argv[1]); sys.exit(3)"), model="m", start_timeout=60
        )
    assert caught.value.hint.startswith("try it by hand: ")
    with pytest.raises(ServiceError, match=r"not ready within 0\.5 s: it wrote nothing") as caught:
        start_server(command("import time; time.sleep(600)"), model="m", start_timeout=0.5)
    assert "raise serve.start_timeout" in caught.value.hint


def test_a_server_ends_when_its_parent_is_killed(tmp_path):
    if sys.platform != "linux":
        pytest.skip("Linux alone tells a child of its parent's death")
    code = (
        "import sys, time; from fairplay.servers.hosting import start_server\n"
        "server = start_server(sys.argv[1], model='m', start_timeout=60)\n"
        "print(server.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, command(SERVE)], stdout=subprocess.PIPE, text=True)
    group = int(parent.stdout.readline())
    assert is_there(group)
    parent.kill()
    parent.communicate()
    wait_until_gone(group)
