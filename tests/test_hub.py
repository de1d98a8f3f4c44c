"""A hub that is out of reach costs seconds, and is told in one error."""

import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from huggingface_hub import constants

from fairplay.cli.main import run
from fairplay.data.sources import HubData
from fairplay.errors import ServiceError
from fairplay.oracles.source import Source

ANSWERED = """
import sys
from fairplay.errors import FairplayError
from fairplay.models.loading import load_tokenizer
from fairplay.oracles.ranker_folder import read_ranker
from fairplay.oracles.source import Source
for read in (lambda name: Source(name).commit(), load_tokenizer, read_ranker):
    for name in ("owner/gated", "owner/nobody"):
        try:
            read(name)
        except FairplayError as error:
            print(type(error).__name__, error.message, error.hint, sep="|")
"""


class Hub(BaseHTTPRequestHandler):
    """A hub with one repository, which it gives to nobody."""

    def do_GET(self):
        there = "owner" not in self.path
        code, reason = (403, "GatedRepo") if "gated" in self.path else (401, "RepoNotFound")
        self.send_response(200 if there else code)
        self.send_header("X-Error-Code", "" if there else reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments):
        """Say nothing."""


def test_a_gated_model_is_told_as_one_that_is_there(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": place, "HF_HOME": str(tmp_path)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ANSWERED], env=environment, capture_output=True, text=True, check=False
        )
    finally:
        server.shutdown()
        server.server_close()
    told = [line.split("|") for line in done.stdout.splitlines()]
    assert len(told) == 6, done.stderr
    for kind, message, hint in told[::2]:
        assert kind == "DataError"
        assert message == "owner/gated: the hub has it, but gives it only to those it has let in"
        assert hint == "ask for access on the model's page, then log in by `hf auth login`"
    for kind, message, _ in told[1::2]:
        assert kind == "DataError"
        assert message == "owner/nobody: no such folder, and nothing of that name on the hub"


def test_a_hub_that_was_switched_off_is_told_as_such(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("FAIRPLAY_HUB_UNREACHED", raising=False)
    with pytest.raises(ServiceError) as refused:
        Source("owner/other").commit()
    away = "access to the hub is switched off (HF_HUB_OFFLINE)"
    assert refused.value.message == f"owner/other: no such folder, not in the cache, and {away}"
    pytest.importorskip("datasets", reason="the optional package `datasets` is not installed")
    with pytest.raises(ServiceError) as refused:
        list(HubData("owner/other", "", "train").rows())
    assert refused.value.message == f"owner/other@train: no such file or folder, and {away}"


FETCH = """
import logging
logging.basicConfig()
from fairplay.errors import ServiceError
from fairplay.oracles.source import Source
for name in ("owner/one", "owner/two"):
    try:
        Source(name).commit()
    except ServiceError as error:
        print(error)
"""


def test_a_hub_out_of_reach_is_asked_briefly_and_told_once_for_each_name(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", FETCH], env=environment, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 15, "huggingface_hub's own retries take 31 seconds for each file"
    assert done.stderr == ""
    told = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in told] == ["owner/one", "hint", "owner/two", "hint"]
    assert "no such folder, not in the cache, and the hub can't be reached" in told[0]


@pytest.mark.parametrize("arguments", [["generate", "--model", "owner/nam", "--input", "{rows}", "--output", "{out}"]])
def test_a_mistyped_model_is_told_as_folder_typo_or_network(arguments, tmp_path, capsys):
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "one"}\n')
    places = {"rows": str(rows), "out": str(tmp_path / "out.jsonl")}
    assert run([word.format(**places) for word in arguments]) == 5
    told = capsys.readouterr().err
    assert told.startswith("ServiceError: owner/nam: no such folder")
    assert "hint: a typo" in told
