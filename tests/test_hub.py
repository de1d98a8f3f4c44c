"""A hub that is out of reach costs seconds, and is told in one error."""

import os
import subprocess
import sys
import time

import pytest

from fairplay.cli.main import run

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
