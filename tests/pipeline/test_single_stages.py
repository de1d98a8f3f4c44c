"""Single stages on a user's own files: nothing is lost to a stop, nothing left out is silent, every line is checked."""

import json
import signal

import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError, Preempted, SettingsError
from fairplay.evaluation.judging import Judged
from fairplay.generation.settings import GenerationSettings
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline import single_stages
from fairplay.pipeline.pair_accuracy import AccuracySettings, evaluate_pairs
from fairplay.pipeline.sides import Side, not_judged
from fairplay.pipeline.single_evaluation import ComparisonSettings, Task, evaluate_sides
from fairplay.pipeline.single_stages import generate_file, rank_file, select_file
from fairplay.preferences.settings import SelectionSettings
from fairplay.records import Dropped, Message, Prompt, Response, ResponseGroup
from models.tiny import make_model, make_tokenizer

from .schema import check

JUDGE = RuleSettings(function="oracles.tiny:length_rule")
RULE_CODE = """
import signal
from pathlib import Path

CALLS = Path(__file__).with_name("calls")
STOP_AT = Path(__file__).with_name("stop_at")


def score(prompt, text):
    with CALLS.open("a") as file:
        file.write(prompt.id + "\\n")
    if text == "no" and STOP_AT.exists() and STOP_AT.read_text() == prompt.id:
        signal.raise_signal(signal.SIGINT)
    return float(len(text))
"""


def never():
    return False


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(number=0, **columns):
    return {"id": f"p{number}", "prompt": f"Question {number}?", "responses": ["no", f"yes {number}"], **columns}


def ranked(number=0, **columns):
    return row(number, **{"pair_logits_ab": [[0, -1.0], [1.0, 0]], "truncated": [False, False], **columns})


def rank(source, output, oracle=JUDGE, should_stop=never):
    return rank_file(
        source, output, oracle=oracle, rule="calibrated", opponents="leave-one-out", should_stop=should_stop
    )


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """A rule oracle that counts its calls, and sends SIGINT at the prompt named in a file."""
    folder = tmp_path / "code"
    folder.mkdir()
    name = f"counting_rule_{tmp_path.name}"  # a module is imported once a process
    (folder / f"{name}.py").write_text(RULE_CODE)
    monkeypatch.syspath_prepend(folder)
    return folder, f"{name}:score"


@pytest.fixture
def signals_kept():
    """Puts the handlers back that a stopped process no longer needs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def policy(tmp_path):
    """The folder of a tiny model with random weights."""
    tokenizer = make_tokenizer("starter")
    folder = tmp_path / "policy"
    save_policy(Policy(make_model("llama", vocab_size=len(tokenizer)), tokenizer, "memory"), folder)
    return folder


def calls(folder):
    path = folder / "calls"
    made = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return made


@pytest.mark.usefixtures("signals_kept")
def test_a_stopped_ranking_says_how_to_resume_and_goes_on_where_it_was(rule, tmp_path, capsys, monkeypatch):
    folder, function = rule
    source = write(tmp_path / "in.jsonl", [row(i) for i in range(150)])
    arguments = ["rank", "--input", str(source), "--set", "oracle.kind=rule", "--set", f"oracle.function={function}"]
    whole, output = tmp_path / "whole.jsonl", tmp_path / "new" / "ranked.jsonl"
    assert run([*arguments, "--output", str(whole)]) == 0
    assert len(calls(folder)) == 300
    (folder / "stop_at").write_text("p70")
    monkeypatch.setattr("sys.argv", ["fairplay", *arguments, "--output", str(output)])
    assert run([*arguments, "--output", str(output)]) == 75
    assert f"resume with: fairplay rank --input {source}" in capsys.readouterr().err
    assert not output.exists()
    calls(folder)
    (folder / "stop_at").unlink()
    assert run([*arguments, "--output", str(output)]) == 0
    assert set(calls(folder)) == {f"p{i}" for i in range(128, 150)}
    assert output.read_bytes() == whole.read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["ranked.jsonl"]


@pytest.mark.parametrize("change", ["input", "oracle", "code"])
def test_shards_of_other_inputs_or_settings_are_never_used_again(change, rule, tmp_path):
    folder, function = rule
    oracle = RuleSettings(function=function)
    source, output = write(tmp_path / "in.jsonl", [row(i) for i in range(100)]), tmp_path / "ranked.jsonl"
    stops = iter([False, True])
    with pytest.raises(Preempted, match="64 of 100"):
        rank(source, output, oracle, should_stop=lambda: next(stops))
    calls(folder)
    if change == "input":
        write(source, [row(i, responses=["a", "bcd"]) for i in range(100)])
    elif change == "oracle":
        oracle = RuleSettings(function=function, temperature=2.0)
    else:
        module = folder / f"{function.partition(':')[0]}.py"
        module.write_text(RULE_CODE + "\n# another version\n")
    rank(source, output, oracle)
    assert len(calls(folder)) == 200


def test_generation_goes_on_after_a_stop_with_the_same_bytes_and_counts_what_it_dropped(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(single_stages, "SHARD_SIZE", 4)
    rows = [{"id": f"p{i}", "prompt": f"say {i}"} for i in range(9)]
    rows += [{"id": "again", "prompt": "say 0"}, {"id": "long", "prompt": "word " * 200}]
    source = write(tmp_path / "prompts.jsonl", rows)

    def generate(output, should_stop):
        return generate_file(
            str(policy),
            str(source),
            output,
            generation=GenerationSettings(num_responses=2, max_new_tokens=3),
            loading=ModelSettings(),
            seed=0,
            should_stop=should_stop,
        )

    whole, output = tmp_path / "whole.jsonl", tmp_path / "deep" / "er" / "out.jsonl"
    done = generate(whole, never)
    assert done["num_in"] == 11
    assert (done["num_out"], done["dropped"]) == (9, {"duplicate row": 1, "prompt too long": 1})
    stops = iter([False, False, True])
    with pytest.raises(Preempted, match="8 of 10"):
        generate(output, lambda: next(stops))
    generate(output, never)
    assert output.read_bytes() == whole.read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]


def test_work_that_fails_before_its_first_commit_leaves_nothing_behind(tmp_path):
    source = write(tmp_path / "in.jsonl", [row()])
    with pytest.raises(DataError, match="raised KeyError"):
        rank(source, tmp_path / "out" / "ranked.jsonl", RuleSettings(function="oracles.tiny:raising_rule"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_is_a_folder_is_refused_before_any_work(tmp_path):
    source = write(tmp_path / "in.jsonl", [row()])
    with pytest.raises(SettingsError, match="is a folder"):
        rank(source, tmp_path)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"prompt": None}, "missing value: `prompt`"),
        ({"prompt": 5}, "`prompt` is int"),
        ({"prompt": " "}, "empty prompt"),
        ({"prompt": [{"role": "user", "content": 5}]}, "`prompt.content` is int"),
        ({"prompt": [{"role": "robot", "content": "a"}]}, "unknown role"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "roles out of order"),
        ({"prompt": ["a"]}, "`prompt` holds a str"),
        ({"id": None}, "`id` must be a text or a whole number, not null"),
        ({"responses": []}, "`responses` must be a list of texts"),
        ({"responses": ["a", 5]}, "`responses` must be a list of texts"),
        ({"responses": ["a", "\ud800"]}, "lone surrogate"),
        ({"token_ids": None}, "`token_ids` must be a list with one entry a response, not null"),
        ({"token_ids": [1, 2]}, "`token_ids`, entry 0: must be a list of token ids, not 1"),
        ({"token_ids": [[1], [-2]]}, "`token_ids`, entry 1"),
        ({"token_ids": [[1]]}, "1 `token_ids` for 2 responses"),
        ({"prompt_token_ids": None}, "`prompt_token_ids` must be a list of token ids, not null"),
        ({"prompt_token_ids": [1.5]}, "`prompt_token_ids`"),
        ({"finish_reasons": [1, 2]}, "`finish_reasons`, entry 0: must be one of stop, length, given, not 1"),
        ({"seeds": [0, 2**63]}, "`seeds`, entry 1"),
        ({"truncated": [True]}, "1 `truncated` for 2 responses"),
        ({"truncated": [0, 1]}, "`truncated`, entry 0: must be true or false"),
        ({"temperature": None}, "`temperature` must be a positive number, not null"),
        ({"temperature": 0}, "`temperature` must be a positive number, not 0"),
        ({"temperature": True}, "`temperature`"),
        ({"pair_logits_ab": 1}, "`pair_logits_ab` must be a list"),
        ({"pair_logits_ab": [[0, 1.0]]}, "1 `pair_logits_ab` for 2 responses"),
        ({"pair_logits_ab": [[0, "x"], [1.0, 0]]}, "`pair_logits_ab`, entry 0: must be a list of 2 finite numbers"),
        ({"pair_logits_ab": [[0, 1.0], [0]]}, "`pair_logits_ab`, entry 1"),
        ({"pair_logits_ab": [[0, float("nan")], [1.0, 0]]}, "`pair_logits_ab`, entry 0"),
        ({"pair_logits_ab": [[0, 10**400], [1.0, 0]]}, "`pair_logits_ab`, entry 0"),
    ],
)
def test_every_column_of_a_line_is_checked_and_the_lines_number_told(columns, told, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(f"{json.dumps(ranked(1))}\n\n{json.dumps(ranked(2, **columns))}\n")
    with pytest.raises(DataError) as refused:
        select_file(source, tmp_path / "out.jsonl", selection=SelectionSettings(), seed=0)
    assert f"{source}: line 3: " in str(refused.value)
    assert told in str(refused.value)


def test_select_with_nothing_left_is_an_error_and_writes_nothing(tmp_path, capsys):
    source, output = write(tmp_path / "in.jsonl", [ranked(responses=["same", "same"])]), tmp_path / "out.jsonl"
    assert run(["select", "--input", str(source), "--output", str(output)]) == 3
    assert "all 1 lines were left out (1 x all responses are equal)" in capsys.readouterr().err
    assert not output.exists()


def test_rank_takes_no_setting_that_it_would_ignore(tmp_path, capsys):
    source, output = write(tmp_path / "in.jsonl", [row()]), tmp_path / "out.jsonl"
    arguments = ["rank", "--input", str(source), "--output", str(output)]
    arguments += ["--set", "oracle.kind=rule", "--set", "oracle.function=oracles.tiny:length_rule"]
    assert run([*arguments, "--set", "selection.kind=best-worst"]) == 2
    assert "selection.kind: unknown setting" in capsys.readouterr().err
    assert run([*arguments, "--set", "selection.rule=calibratd"]) == 2
    assert "did you mean `calibrated`" in capsys.readouterr().err
    assert run([*arguments, "--set", "selection.rule=raw-table", "--set", "selection.opponents=with-self"]) == 0


@pytest.mark.parametrize("side", ["nofile.jsonl", "nofile.parquet", "nofile.csv::output"])
def test_a_side_that_is_written_like_a_file_is_no_model(side, tmp_path):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": "a?"}])
    with pytest.raises(DataError, match=f"{side.partition('::')[0]}: no such file"):
        evaluate_sides(Task(side, "owner/model", str(prompts)), ComparisonSettings(judge=JUDGE), tmp_path / "e")


def test_rows_left_out_of_a_recorded_side_are_counted(tmp_path):
    rows = [{"instruction": f"{i}?", "output": f"response {i}"} for i in range(4)]
    one = write(tmp_path / "one.json", [])
    one.write_text(json.dumps([*rows, rows[0], {"instruction": "none?", "output": None}]))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rows))
    settings = ComparisonSettings(judge=JUDGE, num_bootstrap=200)
    done, folder = evaluate_sides(Task(str(one), str(other)), settings, tmp_path / "e")
    assert json.loads((folder / "results.json").read_text()) == done
    check(done)
    assert [canary["canary"] for canary in done["gates"]["canaries"]] == ["empty", "dot", "refusal"]
    assert done["left_out"] == {"prompts": {}, "policy": {"duplicate row": 1, "no response": 1}, "opponent": {}}
    assert (done["n"], done["dropped"]) == (4, {})


def test_a_prompt_that_generation_dropped_is_a_missing_judgement_with_that_reason(policy, tmp_path):
    prompts = write(
        tmp_path / "prompts.jsonl", [{"id": name, "prompt": name} for name in ("a", "b")] + [{"prompt": "x " * 99}]
    )
    settings = ComparisonSettings(
        judge=JUDGE, generation=GenerationSettings(num_responses=2, max_new_tokens=3), num_bootstrap=200
    )
    done, folder = evaluate_sides(Task(str(policy), str(policy), str(prompts)), settings, tmp_path / "e")
    assert done["gates"]["canaries"][-1]["canary"] == "second-sample"
    assert done["gates"]["canaries"][-1]["num_prompts"] == 2
    before = (folder / "iteration-1" / "6-evaluation").stat().st_mtime_ns
    evaluate_sides(Task(str(policy), str(policy), str(prompts)), settings, folder)
    assert (folder / "iteration-1" / "6-evaluation").stat().st_mtime_ns == before
    with pytest.raises(SettingsError, match="finished with other settings"):
        evaluate_sides(Task(str(policy), str(policy), str(prompts), seed=1), settings, folder)
    assert done["num_judgements"] == 4
    assert done["dropped"] == {"prompt too long": 2}
    assert done["left_out"]["opponent"] == {"prompt too long": 1}


@pytest.mark.usefixtures("signals_kept")
def test_a_stopped_judging_says_how_to_resume_and_asks_for_no_verdict_twice(rule, tmp_path, capsys, monkeypatch):
    folder, function = rule
    for name in ("one", "other"):
        rows = [row(i, responses=[name if i != 100 else "no"]) for i in range(150)]
        write(tmp_path / f"{name}.jsonl", rows)
    arguments = ["evaluate", "--policy", str(tmp_path / "one.jsonl"), "--opponent", str(tmp_path / "other.jsonl")]
    arguments += ["--set", "judge.kind=rule", "--set", f"judge.function={function}", "--set", "num_bootstrap=200"]
    arguments += ["--set", "canaries=[empty]", "--set", "num_canary_prompts=10"]
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--out", "whole"]) == 0
    assert len(calls(folder)) == 149 * 2 + 10 * 2
    (folder / "stop_at").write_text("p40")
    write(tmp_path / "other.jsonl", [row(i, responses=["other" if i not in (40, 100) else "no"]) for i in range(150)])
    monkeypatch.setattr("sys.argv", ["fairplay", *arguments])
    assert run(arguments) == 75
    assert "after 64 of 159 items; they are kept\nresume with: fairplay evaluate" in capsys.readouterr().err
    assert len(calls(folder)) == 64 * 2
    (folder / "stop_at").unlink()
    assert run([*arguments, "--format", "json"]) == 0
    assert set(calls(folder)) >= {f"p{i}" for i in range(64, 150) if i != 100}
    check(json.loads(capsys.readouterr().out))
    (place,) = (tmp_path / "runs").glob("evaluate-*")
    assert run([*arguments, "--out", "again"]) == 0
    assert (place / "results.json").read_bytes() == (tmp_path / "again" / "results.json").read_bytes()


def test_a_judgement_that_only_one_side_misses_is_counted_once():
    answered = ResponseGroup(Prompt("p", (Message("user", "a?"),)), (Response("b"),))
    missing = Side((), unanswered=(Dropped("p", "prompt too long"),))
    judged = Judged((), (Dropped("p", "no response by the policy"),), "characters", ())
    assert not_judged(judged, missing, Side((answered,)), num_samples=1) == [Dropped("p", "prompt too long")]


def test_examples_without_pairs_are_counted_where_accuracy_on_pairs_is_measured(policy, tmp_path):
    rows = [{"prompt": f"{i}?", "responses": ["yes", "no"], "scores": [2.0, 1.0]} for i in range(3)]
    rows += [{"prompt": "3?", "responses": ["a", "b", "a"], "scores": [2.0, 3.0, 1.0]}]
    rows += [{"prompt": "4?", "responses": ["a", "b", "a"], "scores": [2.0, 1.5, 1.0]}]
    source = str(write(tmp_path / "d.jsonl", rows))
    done, _ = evaluate_pairs(str(policy), "", source, AccuracySettings(), tmp_path / "e")
    assert done["dropped"] == {"no pairs": 1}
    assert done["num_in"] == done["num_out"] + sum(done["dropped"].values())


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: ComparisonSettings(judge=JUDGE, num_bootstrap=0), "num_bootstrap: 0 is less than 200"),
        (lambda: AccuracySettings(batch_size=0), "batch_size: 0 is less than 1"),
        (lambda: AccuracySettings(max_prompt_length=-1), "max_prompt_length: -1 is less than 1"),
        (lambda: AccuracySettings(max_length=0), "max_length: 0 is less than 1"),
    ],
)
def test_settings_of_an_evaluation_that_mean_nothing_are_refused(build, told):
    with pytest.raises(ValueError, match=told):
        build()
