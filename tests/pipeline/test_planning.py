import json
from dataclasses import replace

import huggingface_hub
import pytest

from fairplay.cli.options import Format
from fairplay.cli.plan_pages import print_plan
from fairplay.errors import DataError, SettingsError
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, GAME, GATES, PREFERENCES, RESPONSES
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.planning.calibration import calibrate
from fairplay.pipeline.planning.clock import Place, Rates
from fairplay.pipeline.planning.costs import (
    HARDWARE,
    Efficiency,
    decode_seconds,
    forward_flops,
    sharding_seconds,
    training_bytes,
    training_flops,
)
from fairplay.pipeline.planning.plan import PLAN_NAME, run_plan
from fairplay.pipeline.planning.shapes import KNOWN, model_shape
from fairplay.pipeline.planning.work import START, Lengths, comparisons
from fairplay.storage.run_directory import RunDirectory

LLAMA = KNOWN["meta-llama/Meta-Llama-3-8B-Instruct"]


def stages(plan):
    return {stage["stage"]: stage for stage in plan["stages"]}


def test_shapes_count_the_parameters_of_known_models():
    assert LLAMA.body == 6_979_321_856
    assert LLAMA.head == 525_336_576
    assert LLAMA.parameters == pytest.approx(8.03e9, rel=1e-3)
    assert KNOWN["mistralai/Mistral-7B-Instruct-v0.2"].parameters == pytest.approx(7.24e9, rel=1e-3)
    assert KNOWN["google/gemma-2-9b-it"].parameters == pytest.approx(9.24e9, rel=1e-3)
    assert KNOWN["llm-blender/PairRM"].parameters == pytest.approx(0.435e9, rel=0.01)


def test_a_folders_shape_is_that_of_its_weights(world):
    from safetensors import safe_open

    folder = world / "policy"
    with safe_open(folder / "model.safetensors", "pt") as file:
        matrices = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no mapping
    count = sum(shape[0] * shape[1] for shape in matrices if len(shape) == 2)
    assert model_shape(str(folder)).parameters == count
    assert model_shape("nobody/knows-this") is None


def test_operations_are_two_a_parameter_and_token_and_training_takes_three_passes():
    once = forward_flops(LLAMA, 1000, scored=0, mean_context=0)
    assert once == 2 * LLAMA.body * 1000
    assert training_flops(LLAMA, 1000, scored=0, mean_context=0, again=False) == 3 * once
    assert training_flops(LLAMA, 1000, scored=0, mean_context=0, again=0.5) == 3.5 * once
    assert training_flops(LLAMA, 1000, scored=0, mean_context=0, again=1) == 4 * once


def test_decoding_many_rows_costs_less_than_one_by_one_and_more_than_one():
    h100 = HARDWARE["h100"]

    def seconds(rows):
        return decode_seconds(LLAMA, h100, rows=rows, prompt=200, response=400, efficiency=Efficiency())

    assert seconds(1) < seconds(64) < 64 * seconds(1)
    assert seconds(1) == pytest.approx(400 * 2 * LLAMA.parameters / 3.35e12 / 0.65, rel=0.05)  # all weights a token


def test_sharding_sends_nothing_alone_and_more_across_machines():
    h100 = HARDWARE["h100"]
    alone, machine, two = (sharding_seconds(LLAMA, h100, devices=number) for number in (1, 8, 16))
    assert alone == 0
    assert 0 < machine < two


def test_memory_of_full_training_is_what_the_parts_add_up_to():
    kept = {"tokens": 0, "again": True, "shards": 1}
    full = training_bytes(LLAMA, dtype_bytes=4, trained=LLAMA.parameters, optim="adamw_torch", **kept)
    assert full == pytest.approx(16 * LLAMA.parameters, rel=0.05)  # weights, gradients, two states
    lora = training_bytes(LLAMA, dtype_bytes=2, trained=0.005 * LLAMA.parameters, optim="adamw_torch", **kept)
    assert lora < 0.2 * full


def test_a_plan_counts_what_the_run_then_does_and_the_report_shows_both(settings_of, tmp_path):
    settings = settings_of()
    plan = run_plan(settings)
    work = stages(plan)
    run = RunDirectory(tmp_path / "run")
    rates = Rates({RESPONSES: 60.0}, {RESPONSES: 0.0}, Lengths(5, 7, "measured"), "measured in a dream")
    page = run_loop(settings, run, should_stop=lambda: False, rates=rates)
    responses = run.manifest(1, RESPONSES)
    assert work[RESPONSES]["count"] == responses.results["num_responses"]
    assert work[PREFERENCES]["count"] == run.manifest(1, PREFERENCES).results["num_ordered_pairs"]
    assert work[EVALUATION]["count"] == 10
    assert plan["game"]["count"] == 0  # two iterations: every pair of checkpoints has met
    assert plan["gates"]["count"] == 2 * run.manifest(0, GATES).num_in == 2 * 4 * 10
    weights = (run.folder(1, CHECKPOINT) / "model" / "model.safetensors").stat().st_size
    assert work[CHECKPOINT]["disk"] == pytest.approx(weights, rel=0.2)
    assert all(stage["seconds"] is None for stage in plan["stages"])
    assert json.loads((run.path / PLAN_NAME).read_text())["mean_response_tokens"] == 7
    text = page.read_text()
    assert "The plan, and what happened" in text
    assert "measured in a dream" in text
    assert "2 min" in text  # a minute an iteration, two iterations


def test_rates_are_a_line_through_two_sizes(settings_of):
    rates = calibrate(settings_of(), num_prompts=8, should_stop=lambda: False)
    plan = run_plan(settings_of(), rates=rates)
    assert plan["seconds"] > 0
    assert rates.lengths.source == "measured"
    assert 0 < rates.lengths.response <= 12
    assert set(rates.each) == set(rates.fixed) == {*stages(plan), START, GATES}
    assert plan["start"]["seconds"] > 0
    assert plan["gates"]["seconds"] > 0
    assert plan["without_time"] == []
    longer = run_plan(settings_of("num_iterations=3", "prompts.num_per_iteration=8"), rates=rates)
    assert longer["without_time"] == [GAME]  # which no small run has: two iterations have met every opponent


def test_workers_share_what_can_be_shared_of_the_measured_time(settings_of):
    each = dict.fromkeys((RESPONSES, PREFERENCES, CHECKPOINT, EVALUATION), 1.0)
    rates = Rates(dict.fromkeys(each, 5.0), each, Lengths(5, 7, "measured"), "measured in a dream")
    alone = run_plan(settings_of(), rates=rates)
    by_four = run_plan(settings_of("cluster.address=local", "cluster.num_workers=4"), rates=rates)
    for stage in (RESPONSES, PREFERENCES, EVALUATION):
        one, other = (stages(plan)[stage]["seconds"] - 5.0 for plan in (alone, by_four))
        assert other == pytest.approx(one / 4) != 0
    assert stages(by_four)[CHECKPOINT] == stages(alone)[CHECKPOINT]
    assert "4 workers that share evenly, each as fast as this process" in by_four["assumptions"]


def test_a_model_that_is_not_on_this_machine_is_told_as_unchecked_and_one_in_the_cache_is_read(
    settings_of, tmp_path, monkeypatch
):
    absent = replace(settings_of(), model="nobody/nothing")
    unchecked = "nobody/nothing: no folder here, nor in the hub's cache: that the hub has it was not checked"
    assert unchecked in run_plan(absent)["assumptions"]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--nobody--nothing" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--nobody--nothing" / "refs").mkdir()
    (tmp_path / "models--nobody--nothing" / "refs" / "main").write_text("0a1b")
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128}
    (snapshot / "config.json").write_text(json.dumps(sizes | {"vocab_size": 300}))
    plan = run_plan(absent)
    assert unchecked not in plan["assumptions"]
    assert plan["memory"]


def test_hardware_gives_hours_and_more_of_it_gives_fewer(settings_of):
    wide = ("generation.num_responses=16", "generation.max_new_tokens=400", "training.per_device_train_batch_size=8")
    wide += ("training.gradient_checkpointing=true",)
    big = replace(settings_of(*wide), model="meta-llama/Meta-Llama-3-8B-Instruct")
    one, eight = (run_plan(big, place=Place("h100", number)) for number in (1, 8))
    assert one["seconds"] > eight["seconds"] > 0
    assert one["memory"]["training"] > one["memory"]["there"] > eight["memory"]["training"] / 2
    with pytest.raises(SettingsError, match="hardware"):
        Place("abacus", 1)
    with pytest.raises(SettingsError, match="accelerators"):
        Place("h100", 0)


@pytest.mark.parametrize(("orders", "expected"), [("both", 6), ("one", 3)])
def test_pairs_are_read_in_both_orders_or_in_one(settings_of, orders, expected):
    assert comparisons(settings_of(f"oracle.orders={orders}").oracle, 3) == expected


def test_too_few_prompts_are_told_before_the_run(settings_of):
    with pytest.raises(DataError, match="too few"):
        run_plan(settings_of("prompts.num_per_iteration=10000"))


def test_a_total_that_leaves_a_stage_out_says_so_and_names_it(settings_of, capsys):
    settings = settings_of("evaluation.judge={kind: reward_model, model: nobody/knows-this}")
    print_plan(settings, Format.table, rates=None, hardware="h100")
    told = capsys.readouterr().out
    total = next(line for line in told.splitlines() if line.startswith("time"))
    assert "at least" in total
    assert total.endswith(f"without {EVALUATION}, {GATES}: that time is not known")
    assert "{" not in told, "a note in words, no Python value"


def test_what_comes_once_is_in_the_totals(settings_of):
    judge = "evaluation.judge={kind: reward_model, model: llm-blender/PairRM}"
    settings = settings_of("num_iterations=3", "prompts.num_per_iteration=8", "training.save_steps=0", judge)
    plan = run_plan(replace(settings, model="meta-llama/Meta-Llama-3-8B-Instruct"), place=Place("h100", 1))
    for total in ("seconds", "disk"):
        once = [plan[name][total] for name in ("start", "gates", "game")]
        assert min(once) > 0
        assert plan[total] == pytest.approx(3 * sum(stage[total] for stage in plan["stages"]) + sum(once))
    assert plan["start"]["seconds"] < stages(plan)[EVALUATION]["seconds"], "the judge reads nothing there"


def test_an_evaluation_has_the_readings_of_judge_and_training_oracle(settings_of):
    rule = "{kind: rule, function: 'oracles.tiny:length_rule'}"
    model = "{kind: reward_model, model: llm-blender/PairRM}"

    def planned(*, oracle, judge):
        settings = settings_of(f"oracle={oracle}", f"evaluation.judge={judge}")
        plan = run_plan(replace(settings, model="meta-llama/Meta-Llama-3-8B-Instruct"), place=Place("h100", 1))
        return stages(plan)[EVALUATION]

    neither, by_judge, by_oracle, both = (
        planned(oracle=oracle, judge=judge) for oracle in (rule, model) for judge in (rule, model)
    )
    for key in ("passes", "tokens", "seconds"):
        assert by_judge[key] == pytest.approx(by_oracle[key])
        assert by_judge[key] > neither[key]
        assert both[key] - neither[key] == pytest.approx(2 * (by_judge[key] - neither[key]))


def test_the_time_of_a_judge_on_a_server_is_not_taken_for_none(settings_of):
    server = "{kind: llm_judge, template: pair, server: {model: m, base_url: 'http://127.0.0.1:9/v1'}}"
    settings = settings_of(f"oracle={server}", f"evaluation.judge={server}", "num_iterations=3")
    settings = replace(settings, model="meta-llama/Meta-Llama-3-8B-Instruct")
    plan = run_plan(settings, place=Place("h100", 1))
    assert plan["without_time"] == [PREFERENCES, EVALUATION, GATES, GAME]
    assert plan["start"]["seconds"] > 0


def test_what_servers_are_asked_is_counted_and_nothing_where_none_is(settings_of, capsys):
    server = "{kind: llm_judge, template: pair, server: {model: m, base_url: 'http://127.0.0.1:9/v1'}}"
    settings = settings_of(f"oracle={server}", f"evaluation.judge={server}", "num_iterations=2")
    plan, number = run_plan(settings), settings.generation.num_responses
    asked = {name: stage["questions"] for name, stage in stages(plan).items()}
    games = plan["held_out_prompts"] * settings.evaluation.num_samples * len(settings.evaluation.opponents)
    assert asked[PREFERENCES] == plan["prompts_per_iteration"] * number * (number - 1)
    assert asked[EVALUATION] == games * (2 + 2)  # both orders, by the judge and by the training oracle
    once = plan["gates"]["questions"] + plan["game"]["questions"]
    assert plan["gates"]["questions"] > 0
    assert plan["questions"] == 2 * (asked[PREFERENCES] + asked[EVALUATION]) + once
    print_plan(settings, Format.table, rates=None, hardware="")
    told = " ".join(capsys.readouterr().out.split())
    assert f"questions to chat servers, at most: {2 * asked[PREFERENCES]:,} in {PREFERENCES}" in told
    assert run_plan(settings_of())["questions"] == 0


def test_every_stage_that_writes_something_takes_room(settings_of):
    plan = run_plan(settings_of())
    assert all(stage["disk"] > 0 for stage in plan["stages"])
