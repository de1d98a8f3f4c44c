"""What was tampered with is found by name: a verdict, a result, a manifest, a response."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline.context import GAME, PROMPTS
from fairplay.pipeline.findings import version_of_results
from fairplay.pipeline.results import write_results
from fairplay.pipeline.single_evaluation import ComparisonSettings, Task, comparison_document, evaluate_sides
from fairplay.pipeline.verifying import differences, verify
from fairplay.records import STATISTICS_VERSION, Judgement
from fairplay.storage.digests import sha256_file
from fairplay.storage.manifest import Manifest, read_manifest, write_manifest
from fairplay.storage.tables import read_records, write_records

from .schema import check
from .verified import wrong

VERDICTS = "judgements-judge.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")

    def side(name, texts):
        path = folder / f"{name}.jsonl"
        rows = [{"id": f"p{i}", "prompt": f"Question {i}?", "responses": [text]} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    sides = (
        side("ours", ["word " * (6 + i % 5) for i in range(30)]),
        side("theirs", ["word " * (4 + i % 7) for i in range(30)]),
    )
    settings = ComparisonSettings(judge=RuleSettings(function="oracles.tiny:length_rule"), num_bootstrap=300)
    return evaluate_sides(Task(*sides, seed=3), settings, folder / "out")[1]


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def stage(folder):
    return Path(folder) / "iteration-1" / "6-evaluation"


def swap_a_verdict(folder):
    path = stage(folder) / VERDICTS
    one, *others = read_records(path, Judgement)
    write_records(path, [replace(one, win_prob_first=1 - one.win_prob_first, win_prob_second=0.3), *others], Judgement)
    return path


def test_an_honest_evaluation_agrees_and_says_what_was_checked(whole, capsys):
    assert wrong(whole) == {}
    assert run(["verify", str(whole)]) == 0
    told = capsys.readouterr().out
    for what in ("win rate", "canary empty", "markers", "results.json", "files"):
        assert what in told
    assert "checks agree" in told


def test_a_changed_verdict_is_found_by_its_file_and_by_the_number(copy, capsys):
    swap_a_verdict(copy)
    found = wrong(copy)
    assert set(found) == {"iteration-1/6-evaluation: files", "iteration-1/6-evaluation: win rate"}
    assert f"{VERDICTS}: its bytes differ" in found["iteration-1/6-evaluation: files"]
    assert run(["verify", str(copy)]) == 3
    assert "DIFFERS" in capsys.readouterr().out


def test_a_changed_verdict_with_a_mended_hash_is_found_by_the_number(copy):
    path = swap_a_verdict(copy)
    manifest = read_manifest(stage(copy))
    write_manifest(stage(copy), replace(manifest, files={**manifest.files, VERDICTS: sha256_file(path)}))
    found = wrong(copy)
    assert set(found) == {"iteration-1/6-evaluation: win rate"}
    assert found["iteration-1/6-evaluation: win rate"].startswith("win_rate.high: written ")


def test_a_changed_result_is_found_by_its_key(copy):
    path = copy / "results.json"
    document = json.loads(path.read_text())
    document["lc_win_rate_ci"][1] += 0.01
    path.write_text(json.dumps(document))
    found = wrong(copy)
    assert set(found) == {"results.json"}
    assert found["results.json"].startswith("lc_win_rate_ci[1]: written ")


def test_a_changed_manifest_is_found_and_what_rests_on_it_is_not_believed(copy):
    path = stage(copy) / "manifest.json"
    document = json.loads(path.read_text())
    document["results"]["evaluation"]["wins"] += 1
    path.write_text(json.dumps(document))
    found = wrong(copy)
    assert "changed after it was written" in found["iteration-1/6-evaluation: manifest"]


def test_a_manifest_that_was_forged_with_its_own_hash_is_found_by_the_number(copy):
    manifest = read_manifest(stage(copy))
    evaluation = {**manifest.results["evaluation"], "wins": manifest.results["evaluation"]["wins"] + 1}
    write_manifest(stage(copy), replace(manifest, results={**manifest.results, "evaluation": evaluation}))
    found = wrong(copy)
    assert found["iteration-1/6-evaluation: win rate"].startswith("wins: written ")
    assert found["results.json"].startswith("wins: written ")


def test_a_game_whose_judge_is_named_as_older_releases_did_is_checked(copy):
    inputs = {"judge": "a hash", "iteration 1": "another content"}
    folder = copy / "iteration-1" / GAME
    folder.mkdir()
    write_manifest(folder, Manifest(GAME, 1, {}, inputs, num_in=1, num_out=1, dropped={}, files={}))
    assert wrong(copy) == {
        f"iteration-1/{GAME}: inputs": "made from other content than what lies there now: iteration 1"
    }


def as_of_older_statistics(folder, **changed):
    """The folder as a release with other intervals would have written it, and some other figures too."""
    manifest = read_manifest(stage(folder))
    evaluation = manifest.results["evaluation"]
    interval = {**evaluation["win_rate"], "low": 0.0}
    told = {**manifest.results, "evaluation": {**evaluation, "win_rate": interval, **changed}}
    older = replace(manifest, results=told, versions={**manifest.versions, "statistics": "1"})
    write_manifest(stage(folder), older)
    write_results(folder, comparison_document(json.loads((folder / "results.json").read_text())["policy"], older))


def test_intervals_of_other_statistics_are_not_compared_and_told_by_the_versions(copy):
    as_of_older_statistics(copy)
    done = verify(copy)
    check(done)
    assert done["agrees"]
    told = {one["what"]: one["told"] for one in done["checks"] if one["told"]}
    assert set(told) == {"iteration-1/6-evaluation: win rate"}
    assert "by statistics 1, this release has 3: not compared" in told["iteration-1/6-evaluation: win rate"]


def test_an_estimate_that_does_not_follow_is_found_whatever_the_statistics(copy):
    as_of_older_statistics(copy, ties=29)
    found = wrong(copy)
    assert (
        "by statistics 1, this release has 3: not compared; ties: written 29"
        in found["iteration-1/6-evaluation: win rate"]
    )


def test_an_interval_of_these_statistics_that_does_not_follow_is_found(copy):
    manifest = read_manifest(stage(copy))
    evaluation = manifest.results["evaluation"]
    told = {**evaluation, "win_rate": {**evaluation["win_rate"], "low": 0.0}}
    write_manifest(stage(copy), replace(manifest, results={**manifest.results, "evaluation": told}))
    assert "win_rate.low: written 0.0" in wrong(copy)["iteration-1/6-evaluation: win rate"]


def test_a_stage_without_statistics_of_an_older_release_excuses_no_interval(copy):
    manifest = read_manifest(stage(copy))
    evaluation = manifest.results["evaluation"]
    told = {**evaluation, "win_rate": {**evaluation["win_rate"], "low": 0.0}}
    forged = replace(manifest, results={**manifest.results, "evaluation": told})
    write_manifest(stage(copy), forged)
    write_results(copy, comparison_document(json.loads((copy / "results.json").read_text())["policy"], forged))
    folder = copy / "iteration-1" / PROMPTS
    folder.mkdir()
    write_manifest(folder, Manifest(PROMPTS, 1, {}, {}, num_in=1, num_out=1, dropped={}, files={}))
    assert "win_rate.low: written 0.0" in wrong(copy)["iteration-1/6-evaluation: win rate"]


def test_results_have_the_oldest_version_of_the_stages_with_statistics():
    def made(version, results):
        versions = {} if version is None else {"statistics": version}
        return Manifest("any", 1, {}, {}, num_in=1, num_out=1, dropped={}, files={}, results=results, versions=versions)

    judged, figures = {"evaluation": {"win_rate": {"value": 0.5, "low": 0.4, "high": 0.6}}}, {"num_responses": 3}
    assert version_of_results([made("2", judged), made(None, figures)]) == 2
    assert version_of_results([made("2", judged), made("1", judged)]) == 1
    assert version_of_results([made("2", judged), made(None, judged)]) == 1
    assert version_of_results([made(None, figures)]) == STATISTICS_VERSION


def test_a_result_that_is_gone_or_no_json_is_named(copy):
    (copy / "results.json").write_text("{")
    assert "can't be recomputed" in wrong(copy)["results.json"]
    (copy / "results.json").unlink()
    assert "results.json: can't read it" in wrong(copy)["results.json"]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no finished stage of a run"):
        verify(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        verify(tmp_path / "nowhere")


def test_differences_are_named_by_their_place_and_rounding_is_none():
    stored = {"a": [1, {"b": 0.5}], "c": "x", "d": 1, "f": None, "g": 0.5}
    follows = {"a": [1, {"b": 0.5 + 1e-12}], "c": "y", "d": True, "e": 2, "f": 0.1, "g": 0.5 + 1e-6}
    told = list(differences(stored, follows))
    assert [one.split(":")[0] for one in told] == ["c", "d", "f", "g", "e"]
    assert told[0] == 'c: written "x", follows "y"'


def test_an_alarm_in_the_words_of_an_older_release_agrees_and_a_changed_one_does_not(tmp_path):
    rows = [{"prompt": f"Question {i}?", "responses": ["word " * (3 + i % 4)]} for i in range(12)]
    (tmp_path / "side.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(str(tmp_path / "side.jsonl"), str(tmp_path / "side.jsonl"))
    judge = RuleSettings(function="oracles.tiny:length_rule", temperature=20.0)
    folder = evaluate_sides(
        task, ComparisonSettings(judge=judge, num_bootstrap=200, canaries=("dot",)), tmp_path / "o"
    )[1]
    written = read_manifest(stage(folder))
    (canary,) = written.results["canaries"]
    first, mark, _ = canary["alarm"].partition(" It won none of the 12 games outright")
    assert mark

    def agrees(alarm):
        told = replace(written, results={**written.results, "canaries": [{**canary, "alarm": alarm}]})
        write_manifest(stage(folder), told)
        write_results(folder, comparison_document(task.policy, told))
        return verify(folder)["agrees"]

    assert agrees(canary["alarm"])
    assert agrees(first)
    assert not agrees("")
