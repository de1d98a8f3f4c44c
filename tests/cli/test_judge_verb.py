"""`fairplay judge` as a user runs it: numbers on stdout, resumed after kill -9 without paying twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fairplay.cli.main import run
from servers.fault_server import fault_server
from servers.judges import length_judge, said


@pytest.fixture
def command(tmp_path):
    def build(server, *more):
        sides = []
        for name, text in (("ours", "a longer text"), ("theirs", "a text")):
            rows = [{"instruction": f"Say {i}.", "output": f"{text} {i}", "generator": name} for i in range(40)]
            (tmp_path / f"{name}.json").write_text(json.dumps(rows))
            sides.append(str(tmp_path / f"{name}.json"))
        paths = ["--outputs", sides[0], "--baseline", sides[1], "--out", str(tmp_path / "out")]
        settings = [f"--set=judge.server.base_url={server.url}", "--set=judge.server.model=judge"]
        return ["judge", *paths, *settings, "--set=num_bootstrap=200", "--set=canaries=[]", *more]

    return build


@pytest.fixture
def grading(tmp_path):
    questions, answers = tmp_path / "question.jsonl", tmp_path / "answers.jsonl"
    asked = [{"question_id": i, "category": "writing", "turns": ["Write.", "Again."]} for i in range(3)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked))
    given = [{"question_id": i, "model_id": "m", "choices": [{"turns": [f"One {i}.", "Two."]}]} for i in range(3)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in given))
    paths = ["--questions", str(questions), "--outputs", str(answers), "--out", str(tmp_path / "grades")]
    settings = ["--set=judge.server.model=judge", "--set=canaries=[]", "--set=num_bootstrap=200"]
    return ["judge", "--protocol", "mt-bench", *paths, *settings]


def test_it_tells_the_win_rate_and_the_account(command, capsys, tmp_path):
    with fault_server(length_judge()) as server:
        assert run(command(server, "--protocol", "alpaca-eval")) == 0
        told = capsys.readouterr().out
        assert "40 = 40 judged + 0 identical" in told
        assert "66.8 %" in told  # sigmoid(0.7)
        assert run(command(server, "--protocol", "alpaca-eval", "--dry-run", "--format", "json")) == 0
    assert json.loads(capsys.readouterr().out)["cached"] == 40
    assert run(["alpaca-eval", str(tmp_path / "out" / "annotations.json"), "--lc", "minimal", "--format", "json"]) == 0
    (official,) = json.loads(capsys.readouterr().out)
    assert official["win_rate"] == pytest.approx(66.82, abs=0.01)


def test_a_server_that_is_gone_is_exit_code_5(command, capsys, tmp_path):
    with fault_server() as server:
        line = command(server, "--protocol", "pair", "--set=judge.server.max_attempts=1")
    assert run(line) == 5
    told = capsys.readouterr().err
    assert "20 requests in a row failed" in told
    assert f"what was answered is kept in {tmp_path / 'out' / 'replies.sqlite'}" in told


def test_a_cap_too_small_for_any_question_is_exit_code_5_and_says_what_one_takes(command, grading, capsys, tmp_path):
    prices = ["--set=judge.server.input_price=1", "--set=judge.server.output_price=1"]
    with fault_server(length_judge()) as server:
        pairs = command(server, "--protocol", "pair")
        assert run([*pairs, "--set=judge.server.max_total_tokens=9"]) == 5
        told = capsys.readouterr().err
        assert "80 of 80 questions without an answer" in told
        (worst,) = re.findall(r"raise judge\.server\.max_total_tokens \(one question may take up to (\d+)\)", told)
        assert "max_cost" not in told
        assert "run the same command again" in told
        assert run([*pairs, *prices, "--set=judge.server.max_cost=0.000001"]) == 5
        told = capsys.readouterr().err
        assert f"raise judge.server.max_cost (one question may cost up to {int(worst) / 1e6:.4g})" in told
        assert "max_total_tokens" not in told
        assert (
            run([*grading, f"--set=judge.server.base_url={server.url}", "--set=judge.server.max_total_tokens=9"]) == 5
        )
        assert "6 of 6 questions without an answer" in capsys.readouterr().err
        assert not server.asked
        assert not list(tmp_path.glob("*/results.json"))
        assert (
            run([*pairs, f"--set=judge.server.max_total_tokens={worst}", "--set=judge.server.max_concurrency=1"]) == 5
        )
        assert server.asked.total() >= 1


def test_grades_that_cannot_be_read_are_told_with_a_reply_and_the_form_that_is_read(grading, capsys, tmp_path):
    with fault_server(lambda body: said("Grade:\x1b[2J\n seven " + 100 * "x")) as server:
        assert run([*grading, f"--set=judge.server.base_url={server.url}"]) == 3
    told = capsys.readouterr().err
    assert "6 of 6 without a grade (6 x no verdict in the reply); a reply: 'Grade:\\x1b[2J\\n seven xx" in told
    assert 80 * "x" not in told
    assert "[[7]]" in told
    assert len((tmp_path / "grades" / "grades.jsonl").read_text().splitlines()) == 6
    assert f"the replies are in {tmp_path / 'grades' / 'grades.jsonl'}" in told


def test_a_judging_that_the_cap_cut_short_has_its_results_and_exit_code_5_until_it_is_whole(
    command, grading, capsys, tmp_path
):
    def talk(body):
        return said("[[7]]") if "One " in body["messages"][-1]["content"] else length_judge()(body)

    with fault_server(talk) as server:
        graded = [*grading, f"--set=judge.server.base_url={server.url}"]
        for line, out in ((command(server, "--protocol", "pair"), "out"), (graded, "grades")):
            assert run([*line, "--set=judge.server.max_total_tokens=9"]) == 5
            worst = int(re.search(r"may take up to ([\d,]+)", capsys.readouterr().err)[1].replace(",", ""))
            capped = [f"--set=judge.server.max_total_tokens={worst + 20}", "--set=judge.server.max_concurrency=1"]
            assert run([*line, *capped, "--format", "json"]) == 5
            told = capsys.readouterr()
            assert json.loads(told.out)["partial"]
            assert "raise judge.server.max_total_tokens, then run the same command again" in told.err
            assert str(tmp_path / out / "replies.sqlite") in told.err
            assert run(line) == 0
        assert set(server.asked.values()) == {1}


def test_a_missing_key_is_exit_code_2_and_names_the_variable(command, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fault_server() as server:
        code = run([*command(server, "--protocol", "pair"), "--set=judge.server.base_url=https://api.openai.com/v1"])
    assert code == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_a_dry_run_needs_no_key(command, grading, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fault_server() as server:
        far = ["--set=judge.server.base_url=https://api.openai.com/v1", "--dry-run", "--format", "json"]
        assert run([*command(server, "--protocol", "pair"), *far]) == 0
        assert json.loads(capsys.readouterr().out)["to_send"] == 80
        assert run([*grading, *far]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 6


@pytest.mark.slow
def test_after_kill_9_the_same_command_pays_for_the_rest_only(command, tmp_path):
    with fault_server(length_judge()) as server:
        server.delay = 0.2
        line = [sys.executable, "-m", "fairplay", *command(server, "--protocol", "pair", "--format", "json")]
        line.append("--set=judge.server.max_concurrency=2")
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        while len(server.asked) < 20 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        server.delay = 0.0
        told = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
        before = server.asked.total()
        again = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert told["games"] == again["games"] == told["games"] | {"requested": 80, "ok": 80}
    assert before <= 80 + 2
    assert server.asked.total() == before
    assert told["comparison"] == again["comparison"]
    assert told["account"]["cached"] >= 18
