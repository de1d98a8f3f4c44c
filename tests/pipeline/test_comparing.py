"""Two evaluations are compared prompt by prompt, only where they are about the same thing, and verdicts are checked."""

import json
from pathlib import Path

import numpy as np
import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.differences import accuracy_difference, verdict_difference
from fairplay.evaluation.paired_tests import holm
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline.comparing import CompareSettings, compare
from fairplay.pipeline.margins import PairMargin
from fairplay.pipeline.single_evaluation import ComparisonSettings, Task, evaluate_sides
from fairplay.records import Judgement
from fairplay.storage.tables import write_records

from .schema import check

JUDGE = RuleSettings(function="oracles.tiny:length_rule", temperature=20.0)
FEW = CompareSettings(num_bootstrap=500)


def verdicts(number, win_prob, *, seed=0, gap=0):
    rng = np.random.default_rng(seed)
    probs = np.clip(win_prob + 0.2 * rng.standard_normal(number), 0, 1)
    lengths = 50 + rng.integers(20, size=number)
    return [
        Judgement(f"p{i:03d}", 0, float(p), float(p), int(length) + gap, 55)
        for i, (p, length) in enumerate(zip(probs, lengths, strict=True))
    ]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Folders of three evaluations by one judge against one opponent, and one by another judge."""
    folder = tmp_path_factory.mktemp("evaluated")

    def side(name, texts):
        path = folder / f"{name}.jsonl"
        rows = [{"id": f"p{i}", "prompt": f"Question {i}?", "responses": [text]} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    opponent = side("opponent", ["word " * (5 + i % 7) for i in range(40)])
    made = {}
    for name, texts in {
        "one": ["word " * (6 + i % 5) for i in range(40)],
        "two": ["word " * (9 + i % 4) for i in range(40)],
        "short": ["word " * (9 + i % 4) for i in range(38)],
    }.items():
        settings = ComparisonSettings(judge=JUDGE, num_bootstrap=200, canaries=())
        made[name] = str(evaluate_sides(Task(side(name, texts), opponent), settings, folder / f"{name}-out")[1])
    other = ComparisonSettings(judge=RuleSettings(function="pipeline.rules:refusal_rule"), num_bootstrap=200)
    made["other judge"] = str(evaluate_sides(Task(side("one", ["a"]), opponent), other, folder / "judge-out")[1])
    return made


def test_the_judge_is_loaded_once_for_the_game_and_its_canaries(tmp_path, monkeypatch):
    loaded = []
    start = VerdictWork.start
    monkeypatch.setattr(VerdictWork, "start", lambda work: loaded.append(work) or start(work))
    paths = []
    for name, texts in (("one", ["a", "b b"]), ("other", ["a a", "b"])):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps([{"instruction": f"{i}?", "output": text} for i, text in enumerate(texts)]))
    settings = ComparisonSettings(judge=JUDGE, num_bootstrap=200, canaries=("empty", "dot"))
    done, _ = evaluate_sides(Task(*map(str, paths)), settings, tmp_path / "out")
    assert [canary["num_prompts"] for canary in done["gates"]["canaries"]] == [2, 2]
    assert loaded == [VerdictWork(JUDGE)]


def test_the_difference_is_paired_antisymmetric_and_narrower_than_two_intervals_apart():
    one = verdicts(200, 0.5)
    better = [Judgement(j.prompt_id, 0, min(1.0, j.win_prob + 0.05), min(1.0, j.win_prob + 0.05), 60, 55) for j in one]
    there = verdict_difference(one, better, seed=0, num_bootstrap=500)
    back = verdict_difference(better, one, seed=0, num_bootstrap=500)
    assert there.win_rate_change.difference.value == pytest.approx(-back.win_rate_change.difference.value)
    assert there.lc_win_rate_difference.value == pytest.approx(-back.lc_win_rate_difference.value)
    gained = there.win_rate_after.value - there.win_rate_before.value
    assert there.win_rate_change.difference.value == pytest.approx(gained)
    assert there.win_rate_change.p_value < 0.001
    width = there.win_rate_change.difference.high - there.win_rate_change.difference.low
    assert width < 0.3 * (there.win_rate_before.high - there.win_rate_before.low)
    assert (there.counts.losses, back.counts.wins) == (0, 0)
    assert there.counts.wins + there.counts.ties == 200


def test_equal_evaluations_differ_by_nothing_and_noise_alone_is_rarely_called_a_difference():
    same = verdict_difference(verdicts(50, 0.6), verdicts(50, 0.6), seed=0, num_bootstrap=500)
    assert same.win_rate_change.difference.value == same.lc_win_rate_difference.value == 0
    assert (same.win_rate_change.p_value, same.counts.ties) == (1, 50)
    called = 0
    for seed in range(40):
        found = verdict_difference(
            verdicts(60, 0.5, seed=seed), verdicts(60, 0.5, seed=99 + seed), seed=0, num_bootstrap=200
        )
        interval = found.lc_win_rate_difference
        called += not interval.low <= 0 <= interval.high
    assert called <= 6


def test_length_alone_is_no_difference_at_equal_lengths():
    rng = np.random.default_rng(1)

    def judged(shift):
        gaps = rng.normal(shift, 20, size=300)
        probs = 1 / (1 + np.exp(-gaps / 15))
        return [
            Judgement(f"p{i}", 0, p, p, int(200 + g), 200) for i, (g, p) in enumerate(zip(gaps, probs, strict=True))
        ]

    found = verdict_difference(judged(0), judged(20), seed=0, num_bootstrap=500)
    assert found.win_rate_change.difference.low > 0.1
    assert abs(found.lc_win_rate_difference.value) < 0.03


def test_accuracies_are_compared_by_mcnemars_test():
    before = {f"p{i}": 1.0 if i < 10 else -1.0 for i in range(30)}
    after = {f"p{i}": 1.0 if i < 8 or i >= 18 else -1.0 for i in range(30)}
    found = accuracy_difference(before, after, prompts={pair: pair for pair in before}, seed=0, num_bootstrap=500)
    assert (found.counts.wins, found.counts.losses, found.counts.ties) == (12, 2, 16)
    assert found.accuracy_change.p_value == pytest.approx(2 * sum([1, 14, 91]) / 2**14)
    assert found.accuracy_change.difference.value == pytest.approx(10 / 30)


def test_pairs_of_one_prompt_are_no_independent_evidence_in_a_comparison():
    rng = np.random.default_rng(0)
    before, after = rng.normal(0.2, 1, size=40), rng.normal(0.7, 1, size=40)
    one, copied = (
        accuracy_difference(
            *(
                {f"p{n}#{k}": margin for n, margin in enumerate(side) for k in range(copies)}
                for side in (before, after)
            ),
            prompts={f"p{n}#{k}": f"p{n}" for n in range(40) for k in range(copies)},
            seed=0,
            num_bootstrap=500,
        )
        for copies in (1, 4)
    )
    assert copied.accuracy_change == one.accuracy_change
    assert copied.accuracy_before.low == pytest.approx(one.accuracy_before.low)
    assert copied.counts.wins == 4 * one.counts.wins


def test_evaluations_are_compared_with_the_first_and_p_values_by_holm(evaluated):
    done = compare([evaluated["one"], evaluated["two"], evaluated["one"]], FEW)
    check(done)
    first, second = (one["verdicts"]["win_rate_change"] for one in done["differences"])
    assert first["difference"] > 0.05
    assert (second["difference"], second["p_value"]) == (0, 1)
    assert done["family_size"] == 2
    assert [first["p_value_holm"], second["p_value_holm"]] == list(holm({"a": first["p_value"], "b": 1.0}).values())
    assert done["differences"][0]["notes"] == []
    assert done["differences"][1]["notes"] == ["Both sides are the very same figures: nothing is compared."]


def test_unequal_prompts_are_refused_with_names_unless_the_common_ones_are_asked_for(evaluated):
    with pytest.raises(DataError) as refused:
        compare([evaluated["one"], evaluated["short"]], FEW)
    assert "one-out has 2 that" in str(refused.value)
    assert "(p38, p39, ...)" in str(refused.value)
    assert "--intersection compares the 38 prompts that both have" in str(refused.value)
    (one,) = compare([evaluated["one"], evaluated["short"]], CompareSettings(intersection=True, num_bootstrap=200))[
        "differences"
    ]
    assert (one["n"], one["only_before"], one["only_after"]) == (38, 2, 0)


def test_two_judges_two_opponents_or_damaged_verdicts_are_refused(evaluated, tmp_path):
    with pytest.raises(DataError, match="two judges"):
        compare([evaluated["one"], evaluated["other judge"]], CompareSettings(intersection=True))
    with pytest.raises(SettingsError, match="two evaluations or more"):
        compare([evaluated["one"]], FEW)
    with pytest.raises(DataError, match="no such folder or file"):
        compare([evaluated["one"], str(tmp_path / "none")], FEW)
    write_records(tmp_path / "v.parquet", verdicts(40, 0.5), Judgement)
    write_records(tmp_path / "m.parquet", [PairMargin("p000", 1.0, 1.0, None)], PairMargin)
    with pytest.raises(SettingsError, match="can't be compared with margins"):
        compare([str(tmp_path / "v.parquet"), str(tmp_path / "m.parquet")], FEW)


def test_another_judge_of_the_same_name_is_refused_and_the_difference_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "edited_rule.py").write_text("def judge(prompt, text):\n    return len(text) / 20\n")
    rows = [{"prompt": f"Question {i}?", "responses": ["word " * (3 + i % 4)]} for i in range(12)]
    (tmp_path / "side.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    side = str(tmp_path / "side.jsonl")

    def evaluated_by(name, temperature=1.0):
        judge = RuleSettings(function="edited_rule:judge", temperature=temperature)
        settings = ComparisonSettings(judge=judge, num_bootstrap=200, canaries=())
        return str(evaluate_sides(Task(side, side), settings, tmp_path / name)[1])

    one, sharp = evaluated_by("one"), evaluated_by("sharp", 0.1)
    with pytest.raises(DataError, match=r"\(temperature: 1.0 and 0.1\)"):
        compare([one, sharp], FEW)
    (tmp_path / "edited_rule.py").write_text("def judge(prompt, text):\n    return -len(text) / 20\n")
    edited = evaluated_by("edited")
    with pytest.raises(DataError, match=r"\(sha256 of its code: \w{12} and \w{12}\)"):
        compare([one, edited], FEW)
    assert compare([one, one], FEW)["differences"][0]["judge"] == "rule:edited_rule:judge"


def test_each_sides_alarms_are_told_again(tmp_path):
    rows = [{"prompt": f"Question {i}?", "responses": ["word " * (3 + i % 4)]} for i in range(12)]
    (tmp_path / "side.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(str(tmp_path / "side.jsonl"), str(tmp_path / "side.jsonl"))
    judge = RuleSettings(function="oracles.tiny:length_rule", temperature=20.0)
    settings = ComparisonSettings(judge=judge, num_bootstrap=200, canaries=("empty", "dot"))
    folders = [str(evaluate_sides(task, settings, tmp_path / name)[1]) for name in ("one", "two")]
    (difference,) = compare(folders, FEW)["differences"]
    for folder in folders:
        told = [note for note in difference["notes"] if note.startswith(f"ALARM in {folder}: The canary")]
        assert len(told) == 2


def test_what_an_evaluation_told_has_the_same_interval_in_a_comparison(evaluated):
    difference = compare([evaluated["one"], evaluated["two"]], FEW)["differences"][0]
    for name, when in (("one", "before"), ("two", "after")):
        results = json.loads((Path(evaluated[name]) / "results.json").read_text())
        for key in ("win_rate_ci", "lc_win_rate_ci"):
            assert difference["verdicts"][f"{key.removesuffix('_ci')}_{when}_ci"] == results[key]
    some = CompareSettings(intersection=True, num_bootstrap=500)
    fewer = compare([evaluated["one"], evaluated["short"]], some)["differences"][0]["verdicts"]
    assert fewer["win_rate_before_ci"] != difference["verdicts"]["win_rate_before_ci"]  # of other prompts


def test_files_of_verdicts_and_of_margins_are_compared_and_told(tmp_path, capsys):
    for name, prob in (("a", 0.5), ("b", 0.7)):
        write_records(tmp_path / f"{name}.parquet", verdicts(80, prob), Judgement)
    assert run(["compare", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]) == 0
    told = capsys.readouterr().out
    assert "length-controlled" in told
    assert "prompts: second better" in told
    assert "A file of verdicts does not say who judged" in told
    for name, right in (("c", 9), ("d", 15)):
        rows = [PairMargin(f"p{i}", 1.0 if i < right else -1.0, 1.0, None) for i in range(20)]
        write_records(tmp_path / f"{name}.parquet", rows, PairMargin)
    assert run(["compare", str(tmp_path / "c.parquet"), str(tmp_path / "d.parquet"), "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["differences"]
    assert set(one["accuracies"]) == {"logps", "mean_logps"}
    assert one["accuracies"]["logps"]["accuracy_change"]["difference"] == pytest.approx(0.3)
    assert one["accuracies"]["logps"]["counts"] == {"wins": 6, "ties": 14, "losses": 0}


def test_what_was_damaged_since_is_not_compared(evaluated):
    path = Path(evaluated["two"]) / "iteration-1" / "6-evaluation" / "judgements-judge.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"judgements-judge\.parquet: its bytes differ"):
        compare([evaluated["one"], evaluated["two"]], FEW)
    path.write_bytes(whole)
