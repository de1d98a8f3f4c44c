import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fairplay.errors import DataError, LockedError, Preempted, SettingsError
from fairplay.pipeline.comparing import CompareSettings, compare
from fairplay.pipeline.loop import rewrite_report, run_loop
from fairplay.pipeline.stages import prompt_text
from fairplay.pipeline.verifying import verify
from fairplay.records import Judgement, PreferenceGroup, Prompt, ResponseGroup, TrainingExample
from fairplay.storage.digests import sha256_file
from fairplay.storage.locking import lock
from fairplay.storage.manifest import read_manifest, write_manifest
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts
from fairplay.storage.tables import read_records, write_records

from .schema import check

ROLES = ("judge", "oracle")


def never():
    return False


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    from fairplay.pipeline.settings import run_settings
    from fairplay.storage.settings_file import read_yaml

    from .conftest import SMALL_RUN

    run = RunDirectory(tmp_path_factory.mktemp("runs") / "tiny")
    settings = run_settings(read_yaml(world / "recipe.yaml"), SMALL_RUN, source="recipe", name="tiny")
    page = run_loop(settings, run, should_stop=never)
    return run, settings, page


def contents(run):
    return {str(folder.relative_to(run.path)): manifest.content for folder, manifest in run.manifests()}


def test_a_resumed_run_says_since_when_its_stages_are_there(finished, caplog):
    run, settings, _ = finished
    with caplog.at_level("INFO", "fairplay.pipeline.loop"):
        run_loop(settings, run, should_stop=never)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 12
    assert all("; kept from 20" in line for line in told)
    assert not any("{" in line for line in told)


def test_a_run_ends_with_results_and_a_report_for_every_iteration(finished):
    run, _, page = finished
    results = json.loads((run.path / "results.json").read_text())
    check(results)
    assert [row["iteration"] for row in results["iterations"]] == [1, 2]
    for row in results["iterations"]:
        assert row["opponent"] == "start"
        assert 0 <= row["win_rate_ci"][0] <= row["win_rate"] <= row["win_rate_ci"][1] <= 1
        assert 0 <= row["lc_win_rate_ci"][0] <= row["lc_win_rate_ci"][1] <= 1
        assert row["n"] == 10
        assert row["mean_length"] > 0
        assert "starter.judge" in row["judge"]
    last = {(c["opponent"], c["role"]) for c in results["iterations"][1]["comparisons"]}
    assert last == {(o, r) for o in ("start", "previous") for r in ("judge", "oracle")}
    assert page == run.path / "report" / "index.html"
    assert "http" not in page.read_text().replace("http-equiv", "").replace("http://127.0.0.1:8000/v1", "").replace(
        "http://www.w3.org", ""
    )


def test_the_judge_is_tried_with_canaries_before_training_and_what_was_found_is_told(finished):
    run, _, page = finished
    gates = json.loads((run.path / "results.json").read_text())["gates"]
    assert not gates["oracle_is_judge"]
    assert [canary["canary"] for canary in gates["canaries"]] == ["empty", "dot", "refusal", "second-sample"]
    assert all(canary["num_prompts"] == 10 for canary in gates["canaries"])
    again = read_parts(run.folder(0, "7-gates") / "second-sample", ResponseGroup)
    first = read_parts(run.folder(0, "6-evaluation") / "responses", ResponseGroup)
    assert [group.prompt for group in again] == [group.prompt for group in first]
    assert [group.responses for group in again] != [group.responses for group in first]
    assert (gates["overlap"]["num_held_out"], gates["overlap"]["num_training"]) == (10, 30)
    assert [row["policy"] for row in gates["markers"]] == ["start", "iteration 1", "iteration 2"]
    assert "Honesty gates" in page.read_text()
    assert not list(run.path.glob("iteration-*/*/.verdicts*"))


def test_a_judge_that_made_the_preferences_and_loves_refusals_raises_the_alarm(settings_of, tmp_path):
    run = RunDirectory(tmp_path / "run")
    rule = "{kind: rule, function: pipeline.rules:refusal_rule}"
    overrides = (f"oracle={rule}", f"evaluation.judge={rule}", "num_iterations=1", "evaluation.canaries=[refusal]")
    page = run_loop(settings_of(*overrides, "evaluation.num_canary_prompts=4"), run, should_stop=never)
    gates = json.loads((run.path / "results.json").read_text())["gates"]
    assert gates["oracle_is_judge"]
    (canary,) = gates["canaries"]
    assert canary["num_prompts"] == 4
    assert canary["win_rate"] > 0.9
    assert "must not win more than 10 %" in canary["alarm"]
    assert page.read_text().count('<li class="alarm">') == 2


def test_every_number_of_a_run_follows_from_its_verdicts(finished):
    run, _, _ = finished
    done = verify(run.path)
    check(done)
    assert done["agrees"], [one for one in done["checks"] if not one["agrees"]]
    told = {one["what"] for one in done["checks"]}
    assert {f"iteration-{i}/6-evaluation: win rate against start by the {r}" for i in (1, 2) for r in ROLES} <= told
    assert {
        "results.json",
        "iteration-0/7-gates: canary refusal",
        "iteration-2/6-evaluation: oracle minus judge",
    } <= told
    assert {"iteration-2/7-game: all checkpoints against each other", "iteration-0/7-gates: overlap of prompts"} <= told


def test_two_iterates_of_a_run_are_compared_on_its_prompts(finished):
    path = finished[0].path
    done = compare([f"{path}@1", str(path)], CompareSettings(num_bootstrap=200))
    check(done)
    (one,) = done["differences"]
    assert (one["before"], one["after"], one["n"]) == (f"{path}@1", f"{path}@2", 10)
    # This judge knows nothing, so that canaries draw with it; the comparison says so of both sides, and nothing else.
    assert {note.split(":")[0] for note in one["notes"]} == {f"ALARM in {path}@1", f"ALARM in {path}@2"}
    rows = json.loads((path / "results.json").read_text())["iterations"]
    gained = rows[1]["win_rate"] - rows[0]["win_rate"]
    assert one["verdicts"]["win_rate_change"]["difference"] == pytest.approx(gained)
    with pytest.raises(DataError, match="was not judged against `previous`"):
        compare([str(path), f"{path}@1"], CompareSettings(opponent="previous"))


def test_a_tampered_run_is_found_out_by_name(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished[0].path, copy)
    stage = copy / "iteration-1" / "6-evaluation"
    path = stage / "judgements-start-judge.parquet"
    verdicts = read_records(path, Judgement)
    write_records(path, [replace(verdicts[0], win_prob_first=1.0, win_prob_second=1.0), *verdicts[1:]], Judgement)
    wrong = [one for one in verify(copy)["checks"] if not one["agrees"]]
    assert "judgements-start-judge.parquet: its bytes differ" in wrong[0]["told"]
    assert "iteration-1/6-evaluation: win rate against start by the judge" in {one["what"] for one in wrong}
    manifest = read_manifest(stage)
    forged = {**manifest.files, path.name: sha256_file(path)}
    write_manifest(stage, replace(manifest, files=forged))  # a forger who mends the hash is betrayed by what follows
    wrong = {one["what"]: one["told"] for one in verify(copy)["checks"] if not one["agrees"]}
    assert "win_rate.value: written " in wrong["iteration-1/6-evaluation: win rate against start by the judge"]
    assert "opponent previous" in wrong["iteration-2/6-evaluation: inputs"]
    assert not [what for what in wrong if "files" in what]


def test_checkpoints_are_played_against_each_other_and_known_games_not_judged_again(finished):
    run, _, page = finished
    game = json.loads((run.path / "results.json").read_text())["checkpoints"]
    assert game["names"] == ["start", "iteration 1", "iteration 2"]
    results = json.loads((run.path / "results.json").read_text())["iterations"]
    assert game["win_rates"][1][0] == pytest.approx(results[0]["win_rate"])
    assert game["win_rates"][2][0] == pytest.approx(results[1]["win_rate"])
    assert sum(game["nash"]) == pytest.approx(1)
    assert not list(run.folder(2, "7-game").glob("judgements*"))
    assert "Every checkpoint against every other" in page.read_text()


def test_all_checkpoints_stand_on_one_length_controlled_scale(finished):
    run, _, page = finished
    results = json.loads((run.path / "results.json").read_text())
    strengths = results["checkpoints"]["strengths"]
    assert strengths["names"] == results["checkpoints"]["names"]
    assert (strengths["strengths"][0], strengths["strengths_ci"][0]) == (0, [0, 0])
    assert strengths["num_judgements"] == sum(
        one["num_judgements"] for row in results["iterations"] for one in row["comparisons"] if one["role"] == "judge"
    )
    assert [len(row) for row in strengths["covariance"]] == [3, 3, 3]
    assert "All checkpoints on one scale, length taken out" in page.read_text()


def test_declared_comparisons_have_p_values_by_holm_and_others_have_their_own_only(finished):
    results = json.loads((finished[0].path / "results.json").read_text())["iterations"]
    comparisons = [(row["iteration"], one) for row in results for one in row["comparisons"]]
    declared = {(n, one["opponent"]): one for n, one in comparisons if one["p_value_holm"] is not None}
    assert list(declared) == [(1, "start"), (2, "start"), (2, "previous")]
    assert all(one["role"] == "judge" and one["p_value_holm"] >= one["p_value"] for one in declared.values())
    smallest = min(declared.values(), key=lambda one: one["p_value"])
    assert smallest["p_value_holm"] == pytest.approx(min(1, 3 * smallest["p_value"]))
    for _, one in comparisons:
        low, high = one["first_position_bias_ci"]
        assert low <= one["first_position_bias"] <= high
        assert 0 < one["minimum_detectable_gap"] <= 1


def test_checkpoints_that_never_met_are_judged_at_the_end_unless_that_is_not_wanted(finished, settings_of, tmp_path):
    whole = json.loads((finished[0].path / "results.json").read_text())["checkpoints"]
    run = RunDirectory(tmp_path / "run")
    run_loop(settings_of("evaluation.opponents=[start]", "evaluation.all_checkpoints=false"), run, should_stop=never)
    assert json.loads((run.path / "results.json").read_text())["checkpoints"] == {}
    run_loop(settings_of("evaluation.opponents=[start]"), run, should_stop=never)
    game = json.loads((run.path / "results.json").read_text())["checkpoints"]
    assert [path.name for path in run.folder(2, "7-game").glob("judgements*")] == ["judgements-2-1.parquet"]
    assert game == whole


def test_iterations_have_their_own_prompts_and_none_that_is_held_out(finished, world):
    run, _, _ = finished
    drawn = [read_records(run.folder(i, "1-prompts") / "prompts.parquet", Prompt) for i in (1, 2)]
    texts = [{prompt_text(prompt) for prompt in prompts} for prompts in drawn]
    held_out = {json.loads(line)["prompt"] for line in (world / "held_out_prompts.jsonl").read_text().splitlines()}
    assert [len(t) for t in texts] == [8, 8]
    assert not texts[0] & texts[1]
    assert not held_out & {prompt.messages[-1].content for prompts in drawn for prompt in prompts}


def test_every_ordered_pair_is_judged_and_every_response_is_learnt_from(finished):
    run, _, _ = finished
    judged = read_parts(run.folder(1, "3-preferences"), PreferenceGroup)
    assert len(judged) == 8
    assert all(len(group.pair_logits) == 3 and len(group.pair_logits[0]) == 3 for group in judged)
    for example in read_records(run.folder(1, "4-examples") / "examples.parquet", TrainingExample):
        assert len(example.responses) == len(example.win_rates) == 3
        assert sum(example.win_rates) == pytest.approx(1.5)
        assert all(response.token_ids for response in example.responses)
        assert example.prompt_token_ids


def test_a_finished_run_is_kept_and_a_resumed_one_ends_with_the_same_bytes(finished, tmp_path):
    run, settings, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.path.glob("iteration-*/*/manifest.json")}
    run_loop(settings, run, should_stop=never)
    assert {path: path.stat().st_mtime_ns for path in before} == before

    again, asked = RunDirectory(tmp_path / "again"), 0

    def stop_now_and_then():
        nonlocal asked
        asked += 1
        return asked % 9 == 0

    stops = 0
    while True:
        try:
            run_loop(settings, again, should_stop=stop_now_and_then)
            break
        except Preempted:
            stops += 1
    assert stops > 2
    assert contents(again) == contents(run)
    assert (again.path / "results.json").read_bytes() == (run.path / "results.json").read_bytes()


def test_a_report_can_be_written_again_from_the_folder_alone(finished):
    run, _, page = finished
    before = page.read_text()
    page.unlink()
    assert rewrite_report(run.path) == page
    assert page.read_text() == before


def test_a_changed_recipe_is_refused_and_a_fork_redoes_only_what_changed(finished, settings_of):
    run, _, _ = finished
    changed = settings_of("objective.eta=3")
    with pytest.raises(SettingsError, match=r"objective\.eta: 5 -> 3"):
        run_loop(changed, run, should_stop=never)
    fork = run.fork()
    run_loop(changed, fork, should_stop=never)
    old, new = contents(run), contents(fork)
    assert old["iteration-1/4-examples"] == new["iteration-1/4-examples"]
    assert old["iteration-1/5-checkpoint"] != new["iteration-1/5-checkpoint"]


@pytest.mark.parametrize("name", ["dpo", "simpo", "sampo", "sppo_hard", "ipo_mean"])
def test_another_method_is_a_one_line_change(name, settings_of, tmp_path):
    settings = settings_of(f"objective={{name: {name}}}", "selection.kind=best-worst", "num_iterations=1")
    run = RunDirectory(tmp_path / name)
    run_loop(settings, run, should_stop=never)
    assert json.loads((run.path / "results.json").read_text())["objective"]["name"] == name


def test_two_processes_do_not_share_a_run(settings_of, tmp_path):
    (tmp_path / "run").mkdir()
    with lock(tmp_path / "run"), pytest.raises(LockedError):
        run_loop(settings_of(), RunDirectory(tmp_path / "run"), should_stop=never)


def test_too_few_prompts_are_told_with_the_numbers(settings_of, tmp_path):
    with pytest.raises(DataError, match=r"usable prompts, too few for 2 iterations of 50"):
        run_loop(settings_of("prompts.num_per_iteration=50"), RunDirectory(tmp_path / "run"), should_stop=never)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.name=dpoo", "did you mean `dpo`"),
        ("objective.etaa=3", "did you mean `eta`"),
        ("generation.num_responses=1", "at least 2 responses"),
        ("objective={name: dpo, eta: 3}", "no parameter `eta`"),
    ],
)
def test_settings_that_can_not_work_are_refused_before_anything_is_written(override, told, settings_of, tmp_path):
    with pytest.raises(SettingsError) as fault:
        run_loop(settings_of(override), RunDirectory(tmp_path / "run"), should_stop=never)
    assert told in str(fault.value)
    assert not Path(tmp_path / "run").exists()


def test_damaged_responses_are_named_and_nothing_is_built_on_them(finished, settings_of, tmp_path):
    run, settings, _ = finished
    copy = run.fork()
    part = copy.folder(1, "2-responses") / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"part-00000\.parquet: its bytes differ"):
        run_loop(settings, copy, should_stop=never)
