"""MT-Bench's form against a real server: graded turn by turn, resumed, accounted for."""

import json

from fairplay.cli.main import run
from servers.fault_server import fault_server
from servers.judges import said

from .schema import check


def test_answers_are_graded_by_turn_and_category_and_paid_once(tmp_path, capsys):
    questions = [
        {"question_id": i, "category": "math" if i % 2 else "writing", "turns": [f"Q{i}?", f"More {i}?"]}
        for i in range(40)
    ]
    answers = [
        {
            "question_id": i,
            "model_id": "ours",
            "choices": [{"index": 0, "turns": ["fine", "<<500>>" if i == 5 else "ok"]}],
        }
        for i in range(40)
    ]
    for name, rows in (("q", questions), ("a", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def talk(body):
        return said("Well. [[8]]" if "second answer" in body["messages"][-1]["content"] else "Well. [[6]]")

    with fault_server(talk) as server:
        line = ["judge", "--protocol", "mt-bench", "--questions", str(tmp_path / "q.jsonl")]
        line += [
            "--outputs",
            str(tmp_path / "a.jsonl"),
            "--out",
            str(tmp_path / "out"),
            "--set=num_bootstrap=200",
            "--set=canaries=[]",
        ]
        line += [f"--set=judge.server.base_url={server.url}", "--set=judge.server.model=judge"]
        line += ["--set=judge.server.max_attempts=1"]
        assert run([*line, "--dry-run", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["to_send"] == 80
        assert not server.asked
        assert run(line) == 0
        table = capsys.readouterr().out
        assert run([*line, "--format", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert server.asked.total() == 81  # the failure alone was asked again
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers[1:]))
        assert run(line) == 2
        assert "another judging:\n  inputs.answers:" in capsys.readouterr().err
        assert server.asked.total() == 81
    check(document)
    assert "80 = 79 graded + 0 unanswered + 1 server error" in table
    assert (document["turns"]["1"]["rating"], document["turns"]["2"]["rating"]) == (6, 8)
    assert document["account"]["cached"] == 79
    lines = [json.loads(one) for one in (tmp_path / "out" / "grades.jsonl").read_text().splitlines()]
    assert [one["failure"] for one in lines if "failure" in one] == ["server error"]
    assert run(["judge", "--protocol", "mt-bench", "--outputs", "a", "--baseline", "b"]) == 2
