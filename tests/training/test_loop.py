"""The loop learns, measures what it does under known names, and says what it left out."""

import json
import math
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from fairplay.errors import DataError, Preempted, SettingsError
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import load_policy
from fairplay.models.token_logps import score_rows
from fairplay.training.plan import longest_row
from fairplay.training.settings import ImportanceSettings
from fairplay.training.trainable import checkpoint_layers
from models.tiny import make_model
from training.tiny import CPU, EXACT, make_examples, run, save_tiny_policy


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


def records(folder):
    return [json.loads(line) for line in (folder / "work" / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return {name: p.detach() for name, p in load_policy(str(folder), CPU).model.named_parameters()}


SHAPES = [
    ("dpo", {}, 2),
    ("simpo", {}, 2),
    ("sampo", {"draws": 2}, 2),
    ("ipo_sum", {}, 2),
    ("sppo", {"eta": 5.0}, 3),
    ("sppo_soft", {"eta": 5.0}, 2),
    ("kto", {}, 2),
    ("kto", {}, 1),
    ("sft", {}, 1),
    ("simpo_sft", {"reduction": "token"}, 2),
]


@pytest.mark.parametrize(("name", "parameters", "num_responses"), SHAPES)
def test_the_loss_falls_on_what_is_learned(name, parameters, num_responses, start, tmp_path):
    summary = run(
        tmp_path,
        start,
        objective=name,
        parameters=parameters,
        num_responses=num_responses,
        num_train_epochs=6,
        learning_rate=5e-3,
    )
    assert summary.steps == 18
    assert summary.last_loss < summary.first_loss
    assert (summary.examples, summary.dropped) == (12, ())
    assert summary.tokens == records(tmp_path)[-1]["num_tokens"]


def test_prompt_tokens_are_learned_with_their_weight(start, tmp_path):
    policy = load_policy(start, EXACT)
    (data,) = encode_examples(
        policy.tokenizer, make_examples(1, num_responses=1), max_length=96, max_prompt_length=48
    ).examples
    run(
        tmp_path,
        start,
        objective="sft",
        examples=[data.example],
        prompt_loss_weight=0.25,
        model_settings=EXACT,
        max_steps=1,
    )
    ids = torch.tensor([[*data.prompt_ids, *data.response_ids[0]]])
    with torch.no_grad():
        log_probs = policy.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    nll = -log_probs.gather(-1, ids[0, 1:, None])[:, 0]
    weight = torch.full_like(nll, 0.25)
    weight[len(data.prompt_ids) - 1 :] = 1.0
    assert records(tmp_path)[0]["loss"] == pytest.approx(((nll * weight).sum() / weight.sum()).item(), rel=1e-6)


def test_metrics_have_the_names_that_users_know(start, tmp_path):
    run(tmp_path, start, num_train_epochs=2, logging_steps=2)
    found = records(tmp_path)
    assert [record["step"] for record in found] == [2, 4, 6]
    assert set(found[0]) == {
        *("step", "epoch", "loss", "grad_norm", "learning_rate", "num_tokens", "tokens_per_second", "seconds"),
        *("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"),
        *("logps/chosen", "logps/rejected", "logratios/chosen", "logratios/rejected"),
        *("logps/chosen_drift", "length/chosen", "length/rejected", "length/margin_slope", "length/margin_r2"),
    }
    assert found[-1]["logps/chosen_drift"] == pytest.approx(found[-1]["logratios/chosen"], abs=1e-4)
    assert found[-1]["epoch"] == 2.0
    assert found[-1]["rewards/margins"] > found[0]["rewards/margins"]
    margin = found[-1]["rewards/chosen"] - found[-1]["rewards/rejected"]
    assert margin == pytest.approx(found[-1]["rewards/margins"], rel=1e-5)
    assert found[-1]["logratios/chosen"] * 0.1 == pytest.approx(found[-1]["rewards/chosen"], rel=1e-5)


def test_targets_that_are_too_far_are_warned_of_once_in_a_training(start, tmp_path, caplog):
    run(tmp_path / "near", start, objective="sppo", parameters={"eta": 5.0}, num_responses=3)
    assert not caplog.records
    near, far = records(tmp_path / "near"), {"objective": "sppo", "parameters": {"eta": 1e4}, "num_responses": 3}
    assert {record["targets/too_far"] for record in near} == {0.0}
    assert near[0]["targets/ratio"] < near[-1]["targets/ratio"]
    stops = iter([False] * (3 + 1))
    with pytest.raises(Preempted):
        run(tmp_path / "far", start, **far, should_stop=lambda: next(stops, True))
    run(tmp_path / "far", start, **far)
    (warning,) = caplog.records
    assert re.match(r"step 1: 67 % of the targets are larger .* 33 % ask for a probability above 1", warning.message)
    assert records(tmp_path / "far")[-1]["targets/unreachable"] == pytest.approx(1 / 3)


def test_the_first_loss_is_that_of_equal_policies(start, tmp_path):
    assert run(tmp_path, start).first_loss == pytest.approx(math.log(2), rel=1e-5)


def test_another_reference_is_loaded_and_counts(start, tmp_path):
    other = save_tiny_policy(tmp_path / "other", family="qwen2")
    summary = run(tmp_path, start, reference=other, eval_examples=make_examples(5, seed=1))
    assert abs(summary.first_loss - math.log(2)) > 1e-3
    assert np.abs(summary.held_out.before.implicit_rewards).min() > 0


def test_a_copy_of_the_policy_as_reference_is_the_policy(start, tmp_path):
    shutil.copytree(start, tmp_path / "copy")
    run(tmp_path / "one", start)
    run(tmp_path / "two", start, reference=str(tmp_path / "copy"))
    one, two = ((tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_missing_reference_is_refused_before_anything_is_written(start, tmp_path):
    with pytest.raises(DataError, match="no such model folder"):
        run(tmp_path, start, reference=str(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())


def test_held_out_margins_rise_and_are_zero_against_oneself_before(start, tmp_path):
    held_out = [*make_examples(6, seed=1), *make_examples(1, num_responses=1, seed=2)]
    summary = run(tmp_path, start, eval_examples=held_out, num_train_epochs=8, learning_rate=5e-3)
    pairs = summary.held_out
    assert pairs.example_ids == tuple(f"1-{number}" for number in range(6))
    assert [(drop.id, drop.reason) for drop in pairs.dropped] == [("2-0", "no pairs")]
    assert not pairs.before.implicit_rewards.any()
    assert pairs.after.implicit_rewards.mean() > 0.1
    np.testing.assert_allclose(pairs.after.logps - pairs.before.logps, pairs.after.implicit_rewards, atol=1e-4)
    assert np.abs(pairs.after.mean_logps).max() < np.abs(pairs.after.logps).max()


def test_a_reference_free_objective_computes_no_reference(start, tmp_path):
    from safetensors.torch import load_file

    run(tmp_path, start, objective="simpo")
    assert not load_file(tmp_path / "work" / "reference_logps.safetensors")["train"].numel()


def test_lora_trains_few_weights_and_is_merged_into_the_policy(start, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    summary = run(tmp_path, start, use_peft=True, lora_r=4, lora_dropout=0.2, num_train_epochs=6, learning_rate=1e-2)
    assert summary.last_loss < summary.first_loss
    before, after = weights(start), weights(tmp_path / "policy")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_lora_dropout_is_drawn_in_training(start, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    losses = [
        run(tmp_path / str(rate), start, use_peft=True, lora_dropout=rate, num_train_epochs=4).last_loss
        for rate in (0.0, 0.5)
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_recomputing_layers_changes_no_gradient(share, start, tmp_path):
    plain = run(tmp_path / "plain", start, model_settings=EXACT)
    recomputed = {"gradient_checkpointing": True, "gradient_checkpointing_share": share}
    run(tmp_path / "lean", start, model_settings=EXACT, **recomputed)
    assert plain.steps == 3
    expected, found = weights(tmp_path / "plain" / "policy"), weights(tmp_path / "lean" / "policy")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("share", "passes"), [(0.01, [2, 1]), (0.5, [2, 1]), (0.51, [2, 2]), (1.0, [2, 2])])
def test_a_share_of_the_layers_is_computed_again_from_the_first_one_on(share, passes):
    model = make_model("llama")
    checkpoint_layers(model, share)
    layers, seen = model.model.layers, [0, 0]

    def count(place, *_):
        seen[place] += 1

    for place, layer in enumerate(layers):
        layer.mlp.register_forward_pre_hook(partial(count, place))
    score_rows(model, [((5, 6, 7), (8, 9))], tile=8).logps.sum().backward()
    assert seen == passes


def test_bf16_trains_float32_weights(start, tmp_path):
    summary = run(tmp_path, start, bf16=True, num_train_epochs=6, learning_rate=5e-3)
    assert summary.last_loss < summary.first_loss
    assert {p.dtype for p in weights(tmp_path / "policy").values()} == {torch.float32}


def test_training_weights_in_float16_is_refused(start, tmp_path):
    from fairplay.models.settings import ModelSettings

    with pytest.raises(SettingsError, match="float16 can't be trained"):
        run(tmp_path, start, model_settings=ModelSettings(device="cpu", dtype="float16"))


def test_too_long_examples_are_dropped_and_counted(start, tmp_path):
    examples = make_examples(12)
    lengths = sorted(longest_row(e) for e in encoded(start, examples))
    summary = run(tmp_path, start, max_length=lengths[5], max_prompt_length=min(48, lengths[5] - 1))
    assert summary.examples + len(summary.dropped) == 12
    assert summary.dropped
    with pytest.raises(DataError, match="no example to train on: of 12 all were dropped"):
        run(tmp_path / "none", start, max_length=6, max_prompt_length=5)


def encoded(start, examples):
    tokenizer = load_policy(start, CPU).tokenizer
    return encode_examples(tokenizer, examples, max_length=500, max_prompt_length=400).examples


@pytest.mark.parametrize(
    ("error", "named", "options"),
    [
        (DataError, "12 of 12 examples have no pairs: 0-0, 0-1, 0-2, 0-3, 0-4 and 7 more", {"num_responses": 1}),
        (SettingsError, "prompt_loss_weight", {"prompt_loss_weight": 0.1}),
        (
            SettingsError,
            "`tis_dpo` lacks its pair of contrastive models",
            {"objective": "tis_dpo"},
        ),
        (SettingsError, "anchor: the objective `inpo` lacks its anchor model", {"objective": "inpo"}),
        (SettingsError, "`dpo` reads no anchor model", {"anchor": "somewhere"}),
        (SettingsError, "`dpo` reads no pair of contrastive", {"importance": ImportanceSettings("somewhere", "else")}),
        (SettingsError, "`dpo` reads no pair of contrastive", {"importance": ImportanceSettings(mu=2.0)}),
        (SettingsError, "a step has only one", {"objective": "kto", "per_device_train_batch_size": 1}),
        (SettingsError, "lr_scheduler_kwargs", {"lr_scheduler_kwargs": {"floor": 0.1}}),
    ],
)
def test_an_objective_that_can_not_be_fed_is_refused_before_anything_is_written(error, named, options, start, tmp_path):
    with pytest.raises(error, match=named):
        run(tmp_path, start, **options)
    assert not list(tmp_path.iterdir())


def test_steps_are_counted_by_epochs_or_by_max_steps(start, tmp_path):
    assert run(tmp_path / "half", start, num_train_epochs=0.5).steps == 2
    assert run(tmp_path / "more", start, max_steps=5, gradient_accumulation_steps=2).steps == 5
    assert run(tmp_path / "fewer", start, num_train_epochs=2, gradient_accumulation_steps=2).steps == 4
