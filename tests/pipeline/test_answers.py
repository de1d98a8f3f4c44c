"""One model's answers in the files of AlpacaEval, Arena-Hard and MT-Bench, decoded as the papers state it."""

import json

import pytest

from fairplay.cli.main import run
from fairplay.evaluation.protocols import decoding
from fairplay.evaluation.protocols.decoding import FAMILIES, Decoding, decoding_of
from fairplay.evaluation.protocols.mt_bench import parse_answer
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from models.tiny import make_model, make_tokenizer


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-policy"
    tokenizer = make_tokenizer("chatml")
    save_policy(Policy(make_model("llama", vocab_size=len(tokenizer)), tokenizer, "memory"), folder)
    return folder


@pytest.fixture
def short(monkeypatch):
    """A few tokens suffice here."""
    monkeypatch.setattr(decoding, "_ARENA_HARD", Decoding(0.0, 1.0, 6))
    monkeypatch.setattr(decoding, "_MT_BENCH_TOKENS", 5)
    monkeypatch.setattr(decoding, "FAMILIES", {**FAMILIES, "alpaca-eval": {"sppo": Decoding(0.7, 0.9, 4)}})


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_call_writes_the_files_of_all_three(tmp_path, policy, short, capsys):
    alpaca = write(tmp_path / "ae.jsonl", [{"instruction": f"Say {i}.", "output": "x"} for i in range(3)])
    arena = write(tmp_path / "ah.jsonl", [{"uid": f"u{i}", "category": "hard", "prompt": f"Do {i}."} for i in range(2)])
    turns = [("math", 2), ("writing", 2), ("stem", 1)]
    bench = write(
        tmp_path / "mt.jsonl",
        [
            {"question_id": 81 + i, "category": category, "turns": [f"First {i}?", f"Then {i}?"][:n]}
            for i, (category, n) in enumerate(turns)
        ],
    )
    line = ["answers", "--model", str(policy), "--decoding", "sppo", "--out", str(tmp_path / "out"), "--format", "json"]
    files = {"alpaca-eval": alpaca, "arena-hard": arena, "mt-bench": bench}
    line += [f"--questions={name}={path}" for name, path in files.items()]
    assert run(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: (done["num_questions"], done["num_answered"]) for name, done in told.items()} == {
        "alpaca-eval": (3, 3),
        "arena-hard": (2, 2),
        "mt-bench": (5, 5),
    }
    outputs = json.loads((tmp_path / "out" / "alpaca-eval" / "model_outputs.json").read_text())
    assert [row["instruction"] for row in outputs] == ["Say 0.", "Say 1.", "Say 2."]
    assert {row["generator"] for row in outputs} == {"tiny-policy"}
    answers = (tmp_path / "out" / "arena-hard" / "model_answer" / "tiny-policy.jsonl").read_text().splitlines()
    rows = [json.loads(one) for one in answers]
    assert [row["uid"] for row in rows] == ["u0", "u1"]
    assert rows[0]["messages"][0]["content"] == "Do 0."
    assert isinstance(rows[0]["messages"][1]["content"]["answer"], str)
    graded = (tmp_path / "out" / "mt-bench" / "model_answer" / "tiny-policy.jsonl").read_text()
    parsed = [parse_answer(json.loads(one), "") for one in graded.splitlines()]
    assert [(own, model, len(given)) for own, model, given in parsed] == [
        ("81", "tiny-policy", 2),
        ("82", "tiny-policy", 2),
        ("83", "tiny-policy", 1),
    ]
    responses = [
        json.loads(one) for one in (tmp_path / "out" / "mt-bench" / "responses.jsonl").read_text().splitlines()
    ]
    second = next(row for row in responses if row["id"] == "81" and len(row["prompt"]) == 3)
    assert second["prompt"][1]["content"] == parsed[0][2][0]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("parts/*")}
    content = graded
    assert run(line) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("parts/*")}
    assert (tmp_path / "out" / "mt-bench" / "model_answer" / "tiny-policy.jsonl").read_text() == content


def test_the_old_form_of_arena_hard_is_answered_in_the_old_form(tmp_path, policy, short):
    path = write(tmp_path / "q.jsonl", [{"question_id": "a1", "turns": [{"content": "Do it."}]}])
    line = ["answers", "--model", str(policy), "--out", str(tmp_path / "out"), "--name", "mine"]
    assert run([*line, f"--questions=arena-hard={path}"]) == 0
    row = json.loads((tmp_path / "out" / "arena-hard" / "model_answer" / "mine.jsonl").read_text())
    assert (row["question_id"], row["model_id"]) == ("a1", "mine")
    assert row["choices"][0]["turns"][0]["token_len"] == 6


def test_decoding_is_what_the_papers_state():
    assert decoding_of("alpaca-eval", "sppo") == Decoding(0.7, 0.9, 2048)
    assert decoding_of("alpaca-eval", "simpo-llama3") == Decoding(0.9, 1.0, 4096)
    assert decoding_of("hh", "sampo-pythia") == Decoding(0.0, 1.0, 256)
    assert decoding_of("arena-hard", "") == Decoding(0.0, 1.0, 4096)
    assert [decoding_of("mt-bench", "", name).temperature for name in ("math", "stem", "roleplay")] == [0.0, 0.1, 0.7]


@pytest.mark.parametrize(
    ("questions", "more", "told"),
    [
        ("alpaca-eval=Q", [], "no decoding of the family ``"),
        ("alpaca-eval=Q", ["--decoding", "spo"], "did you mean `sppo`"),
        ("alpaca=Q", [], "unknown benchmark `alpaca`"),
        ("arena-hard", [], "expected BENCHMARK=FILE"),
        ("arena-hard=Q", ["--name", "a/b"], "no name of a file"),
        ("arena-hard=Q", [], "no question of Arena-Hard"),
        ("mt-bench=Q", [], "no question with one or two"),
    ],
)
def test_what_can_not_be_answered_is_named(tmp_path, policy, capsys, questions, more, told):
    path = write(tmp_path / "q.jsonl", [{"prompt": "Do it."}])
    line = ["answers", "--model", str(policy), "--out", str(tmp_path / "out")]
    assert run([*line, f"--questions={questions.replace('Q', str(path))}", *more]) in (2, 3)
    assert told in capsys.readouterr().err


def test_a_decoding_that_is_asked_for_goes_before_the_papers_and_is_told(tmp_path, policy, capsys):
    alpaca = write(tmp_path / "ae.jsonl", [{"instruction": "Say it.", "output": "x"}])
    bench = write(tmp_path / "mt.jsonl", [{"question_id": 81, "category": "math", "turns": ["First?"]}])
    line = ["answers", "--model", str(policy), "--decoding", "simpo-llama3", "--out", str(tmp_path / "out")]
    line += ["--format", "json", f"--questions=alpaca-eval={alpaca}", f"--questions=mt-bench={bench}"]
    own = {"max_new_tokens": 3, "temperature": 0.0, "top_p": 1.0}
    assert run([*line, *(f"--set=generation.{key}={value}" for key, value in own.items())]) == 0
    told = json.loads(capsys.readouterr().out)
    taken = {"max_new_tokens": {"stated": 4096, "taken": 3}, "temperature": {"stated": 0.9, "taken": 0.0}}
    assert told["alpaca-eval"]["deviations_from_paper"] == taken
    assert told["mt-bench"]["deviations_from_paper"]["temperature"] == {"stated": "by category", "taken": 0.0}
    written = json.loads((tmp_path / "out" / "alpaca-eval" / "decoding.json").read_text())
    assert written == {"decoding": "simpo-llama3", "deviations": taken}
    assert [done["num_cut_at_length"] for done in told.values()] == [1, 1]


def test_more_than_one_answer_to_a_question_is_refused(tmp_path, policy, capsys):
    path = write(tmp_path / "ae.jsonl", [{"instruction": "Say it.", "output": "x"}])
    line = ["answers", "--model", str(policy), "--out", str(tmp_path / "out"), f"--questions=arena-hard={path}"]
    assert run([*line, "--set", "generation.num_responses=3"]) == 2
    assert "takes one answer to a question, not 3" in capsys.readouterr().err
