"""Reference schedules are what a naive loop with a live reference does, and go on in the middle with the same bytes."""

import copy
import math

import pytest
import torch
from torch.nn.functional import kl_div, softplus

from fairplay.errors import Preempted, SettingsError
from fairplay.models.loading import load_policy
from fairplay.training.plan import plan_steps
from fairplay.training.renewal import Mixture, PolicyItself
from fairplay.training.settings import TrainingSettings
from training.test_anchor_rows import naive_kto, sums
from training.test_loop import records
from training.test_reference import encoded
from training.test_resume import result, stop_after
from training.tiny import CPU, EXACT, run, save_tiny_policy

EVERY_EPOCH = {"reference_schedule": "every_epoch"}
HARD = {"reference_schedule": "every_steps", "reference_sync_steps": 4}
MIXED = {**HARD, "reference_mixup_alpha": 0.6}
SCHEDULES = {"fixed": {}, "every_epoch": EVERY_EPOCH, "hard": HARD, "mixed": MIXED}
RATE, BETA, ALPHA, NUM_EXAMPLES = 0.05, 0.1, 0.7, 10
PLAIN = {
    "optim": "sgd",
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "max_grad_norm": 0.0,
}
SIZES = {"num_train_epochs": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


def naive_loss(objective, policy, reference, examples, longest):
    if objective == "kto":
        return naive_kto(policy, reference, examples, longest=longest)[0]
    rows = [(e.prompt_ids, response) for e in examples for response in e.response_ids]
    with torch.no_grad():
        anchors = sums(reference, rows)
    chosen, rejected = (sums(policy, rows) - anchors).reshape(-1, 2).T
    margins = BETA * (chosen - rejected)
    if objective == "tdpo2":
        of_chosen, of_rejected = divergence(policy, reference, rows).reshape(-1, 2).T
        margins = margins - BETA * ALPHA * (of_rejected - of_chosen.detach())
    return softplus(-margins).mean()


def divergence(policy, reference, rows):
    """KL(reference || policy) summed over each response's tokens, one row at a time."""
    found = []
    for prompt, response in rows:
        ids = torch.tensor([[*prompt, *response]])
        own = policy(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        with torch.no_grad():
            other = reference(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found.append(kl_div(own, other, reduction="sum", log_target=True))
    return torch.stack(found)


def naive_training(start, objective, schedule):
    """SGD with the reference alive beside the policy, asked row by row."""
    loaded = load_policy(start, EXACT)
    policy, reference = loaded.model, copy.deepcopy(loaded.model)
    examples = encoded(loaded, NUM_EXAMPLES)
    plan = plan_steps(examples, TrainingSettings(**SIZES), seed=0)
    period = {"fixed": plan.num_steps, "every_epoch": plan.per_epoch}.get(schedule, 4)
    alpha = 0.6 if schedule == "mixed" else 1.0
    losses = []
    for number, step in plan.steps(0, plan.num_steps):
        if number and number % period == 0:
            for own, learned in zip(reference.parameters(), policy.parameters(), strict=True):
                own.data = alpha * learned.data + (1 - alpha) * own.data
        policy.zero_grad()
        order = [examples[index] for micro_batch in step for index in micro_batch]
        loss = naive_loss(objective, policy, reference, order, max(plan.row_lengths))
        loss.backward()
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter -= RATE * parameter.grad
        losses.append(loss.item())
    return policy, losses


@pytest.mark.parametrize("objective", ["dpo", "kto", "tdpo2"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_that_of_a_live_reference(schedule, objective, start, tmp_path):
    parameters = {
        "dpo": {"beta": BETA},
        "kto": {"beta": 0.3, "lam_d": 1.2, "lam_u": 0.7},
        "tdpo2": {"beta": BETA, "alpha": ALPHA},
    }[objective]
    options = {**PLAIN, **SIZES, **SCHEDULES[schedule], "model_settings": EXACT, "count": NUM_EXAMPLES}
    run(tmp_path, start, objective=objective, parameters=parameters, **options)
    policy, losses = naive_training(start, objective, schedule)
    # The family's norms are in float32: what differs in the last bits of float64 may round to its neighbours there.
    assert [record["loss"] for record in records(tmp_path)] == pytest.approx(losses, rel=1e-7)
    trained = load_policy(str(tmp_path / "policy"), EXACT).model
    for found, expected in zip(trained.parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("extra", [{}, {"use_peft": True}, {"gradient_checkpointing": True}], ids=str)
@pytest.mark.parametrize(("schedule", "period"), [(EVERY_EPOCH, 3), (HARD, 4)], ids=["every_epoch", "hard"])
def test_right_after_a_hard_renewal_every_log_ratio_is_0(schedule, period, extra, start, tmp_path):
    run(tmp_path, start, **schedule, **extra, num_train_epochs=3, learning_rate=5e-3, warmup_ratio=0.0)
    for record in records(tmp_path):
        is_fresh = (record["step"] - 1) % period == 0
        assert (abs(record["logratios/chosen"]) < 1e-4) == is_fresh
        assert (abs(record["loss"] - math.log(2)) < 1e-6) == is_fresh
    # Measured against the start, which the renewed reference no longer is.
    assert abs(records(tmp_path)[-1]["logps/chosen_drift"]) > 0.01


@pytest.mark.parametrize("polls", [4, 5])
@pytest.mark.parametrize("schedule", ["every_epoch", "hard", "mixed"])
def test_stopped_again_and_again_within_a_schedule_the_bytes_are_the_same(schedule, polls, start, tmp_path):
    options = {**SCHEDULES[schedule], "objective": "kto", "num_responses": 1, "num_train_epochs": 3}
    run(tmp_path / "unbroken", start, **options)
    stops = 0
    while not (tmp_path / "stopped" / "policy").exists():
        try:
            # Each renewal of `every_epoch` asks 6 times: a call that is stopped in one would never get past it.
            run(tmp_path / "stopped", start, **options, should_stop=stop_after(polls + 8 * (stops % 2)))
        except Preempted:
            stops += 1
    assert stops > 2
    assert result(tmp_path / "stopped") == result(tmp_path / "unbroken")


def test_a_mixture_is_asked_twice_for_a_step_and_mixed_once(start):
    policy, reference = load_policy(start, CPU).model, load_policy(start, CPU).model
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 1.0
    before = [p.detach().clone() for p in reference.parameters()]
    mixture = Mixture(reference, policy, 0.25)
    assert mixture.state() == {}
    for number in (2, 2, 4):
        found = mixture(policy, number)
    for old, new in zip(before, found.parameters(), strict=True):
        torch.testing.assert_close(new, old + 1 - 0.75**2)
    resumed = Mixture(load_policy(start, CPU).model, policy, 0.25)
    resumed.load(mixture.state())
    for known, new in zip(found.parameters(), resumed(policy, 4).parameters(), strict=True):
        assert torch.equal(known, new)
    assert PolicyItself()(policy, 2) is policy


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("has no reference to renew", {"objective": "simpo", **HARD}),
        ("adapters can't become its weights", {"objective": "tdpo1", "use_peft": True, **HARD}),
        ("first be renewed after step 4, but there are only 3", HARD),
        ("first be renewed after step 3, but there are only 2", {**EVERY_EPOCH, "max_steps": 2}),
    ],
)
def test_a_schedule_without_effect_is_refused_before_anything_is_written(named, options, start, tmp_path):
    with pytest.raises(SettingsError, match=named):
        run(tmp_path, start, **options)
    assert not list(tmp_path.iterdir())


def test_models_of_different_architectures_are_not_mixed(start, tmp_path):
    other = save_tiny_policy(tmp_path / "other", family="gpt2")
    with pytest.raises(SettingsError, match="different weights, which can't be mixed"):
        run(tmp_path, start, reference=other, **MIXED, num_train_epochs=3)
