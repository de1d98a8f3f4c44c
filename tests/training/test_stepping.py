"""A step's gradient, for every objective of the table."""

import copy
import math

import pytest
import torch

from fairplay.errors import DataError
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import load_policy
from fairplay.objectives.anchors import plain
from fairplay.objectives.table import OBJECTIVES, build_objective
from fairplay.training.anchor_rows import mismatched
from fairplay.training.batches import ReferenceLogps, TrainingSet
from fairplay.training.distributed import whole
from fairplay.training.guard import check_objective, needs_live_reference
from fairplay.training.metrics import MetricWindow
from fairplay.training.reading import Reading
from fairplay.training.reference import Scorer
from fairplay.training.settings import TrainingSettings
from fairplay.training.stepping import Learner
from training.tiny import EXACT, make_examples, save_tiny_policy

NUM_EXAMPLES = 7
SPLIT = ((5, 1), (0, 2, 6), (3,), (4,))
WHOLE = (tuple(index for micro_batch in SPLIT for index in micro_batch),)
NUMBERS = range(6)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return score_start(save_tiny_policy(tmp_path_factory.mktemp("start") / "policy"))


def score_start(start):
    """A float64 policy, encoded examples of two responses each, its log-probs of them and of anchor rows."""
    policy = load_policy(start, EXACT)
    data = encode_examples(policy.tokenizer, make_examples(NUM_EXAMPLES), max_length=96, max_prompt_length=48).examples
    scorer = Scorer(NUM_EXAMPLES, Reading(longest=96, bf16=False), should_stop=bool)
    own = scorer.token_logps(policy.model, data, "reference")
    anchors = mismatched(data, WHOLE, longest=96)
    return policy.model, data, own, scorer.token_logps(policy.model, anchors, "anchors")


def shifted_model(model, shift):
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in shifted.parameters():
            parameter += shift * torch.sin(torch.arange(parameter.numel())).reshape(parameter.shape)
    return shifted


def learner_of(objective, scored, *, shift=0.0, prompt_loss_weight=0.0, starts_at_reference=False):
    model, data, own, anchors = scored
    reference = ReferenceLogps()
    if objective.needs_reference:
        shifted = [[v + shift * torch.sin(torch.arange(len(v)) + k) for k, v in enumerate(x)] for x in (own, anchors)]
        reference = ReferenceLogps(dict(enumerate(shifted[0])), dict.fromkeys(NUMBERS, tuple(shifted[1])))
    frozen = {
        "anchor": {k: v + 0.3 * torch.cos(torch.arange(len(v)) + k) for k, v in enumerate(own)},
        "importance": {k: 1 + 0.5 * torch.cos(torch.arange(len(v)) - k) for k, v in enumerate(own)},
    }
    read = {
        name: values for name, values in frozen.items() if any(name in need for need in objective.needs if ":" in need)
    }
    return Learner(
        model=model,
        data=TrainingSet(data, reference, prompt_loss_weight, **read),
        objective=objective,
        seed=0,
        reading=Reading(longest=96, bf16=False),
        has_dropout=False,
        steps_at_reference=frozenset({0} if starts_at_reference else ()),
        live_reference=shifted_model(model, shift) if needs_live_reference(objective) else None,
    )


def gradient_of(learner, step, *, number):
    learner.model.zero_grad()
    window = MetricWindow(torch.device("cpu"))
    state = learner.objective.initial_state
    outcome = learner.accumulate(step, number=number, epoch=0, state=state, window=window)
    return outcome, torch.cat([whole(p.grad).flatten() for p in learner.model.parameters()]), window.means(1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_of_the_table_can_be_fed(name):
    check_objective(build_objective(name, {}), make_examples(2), TrainingSettings())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_accumulated_gradients_are_the_whole_batchs(name, scored):
    learner = learner_of(build_objective(name, {}), scored, shift=0.1, prompt_loss_weight=0.1 * (name == "sft"))
    at_once, gradient, metrics = gradient_of(learner, WHOLE, number=3)
    outcome, accumulated, accumulated_metrics = gradient_of(learner, SPLIT, number=3)
    size = max(1.0, gradient.abs().max().item())
    assert outcome.loss.item() == pytest.approx(at_once.loss.item(), rel=1e-12)
    torch.testing.assert_close(accumulated, gradient, rtol=0, atol=1e-12 * size)
    assert accumulated_metrics == pytest.approx(metrics, rel=1e-9, abs=1e-9)
    assert outcome.num_tokens == at_once.num_tokens
    assert plain(outcome.state) == pytest.approx(plain(at_once.state))


@pytest.mark.parametrize("step", [WHOLE, SPLIT], ids=["whole", "accumulated"])
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if build_objective(name, {}).needs_reference])
def test_a_start_at_the_reference_passes_the_guard(name, step, scored):
    learner = learner_of(build_objective(name, {}), scored, starts_at_reference=True)
    outcome, gradient, _ = gradient_of(learner, step, number=0)
    assert math.isfinite(outcome.loss)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["dpo", "bco_pair", "kto"])
def test_a_start_off_the_reference_is_refused_with_the_reason(name, scored):
    learner = learner_of(build_objective(name, {}), scored, shift=0.01, starts_at_reference=True)
    with pytest.raises(DataError, match=r"log-ratio is 0\.01 nats, not 0, in the examples 0-"):
        gradient_of(learner, SPLIT, number=0)
    gradient_of(learner, SPLIT, number=1)


def test_dropout_is_seeded_by_step_and_micro_batch(scored):
    from dataclasses import replace

    model, *_ = scored
    learner = replace(learner_of(build_objective("simpo", {}), scored), has_dropout=True)
    learner.reading.layout(model)  # is tried without dropout
    dropout = torch.nn.Dropout(0.5)
    handle = model.base_model.layers[0].register_forward_hook(lambda _, __, hidden: dropout(hidden))
    try:
        first, again, later = (gradient_of(learner, SPLIT, number=number)[1] for number in (4, 4, 5))
    finally:
        handle.remove()
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
