"""Token log-probs equal the naive padded computation, whatever the family, the padding, the order and the tiles."""

import pytest
import torch
from torch import nn

from fairplay.errors import DataError, SettingsError
from fairplay.models import head
from fairplay.models.adapters import adapters_off, add_adapters, scoring_mode
from fairplay.models.loading import Policy
from fairplay.models.settings import AdapterSettings
from fairplay.models.token_logps import check_head, score_rows
from models.test_linear_logprob import RecordedShapes
from models.tiny import FAMILIES, make_model, make_tokenizer

ROWS = [
    ((5, 6, 7), (8, 9, 2)),
    ((11,), (12,)),
    (tuple(range(20, 40)), tuple(range(50, 61))),
    ((300, 301), (302, 303, 304, 305, 2)),
]


def naive(model, rows, *, first=None):
    """All logits of the padded batch at once; scored from the response's start, or from `first`."""
    texts = [(*prompt, *response) for prompt, response in rows]
    width = max(map(len, texts))
    ids = torch.tensor([text + (0,) * (width - len(text)) for text in texts])
    log_probs = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[:, :-1]
    logps = log_probs.gather(-1, ids[:, 1:, None])[..., 0]
    spans = [((first or len(prompt)) - 1, len(prompt) + len(response) - 1) for prompt, response in rows]
    return torch.cat([logps[row, start:end] for row, (start, end) in enumerate(spans)])


def gradients(model, scores):
    weights = torch.linspace(-1.0, 1.0, len(scores), dtype=scores.dtype)
    parameters = list(model.parameters())
    return torch.autograd.grad((scores * weights).sum(), parameters)


@pytest.mark.parametrize("tiled", [False, True], ids=["whole", "tiled"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["f64", "f32"])
def test_values_and_gradients_equal_the_naive_computation(family, dtype, tolerance, tiled, monkeypatch):
    if tiled:
        monkeypatch.setattr(head, "KEPT_BYTES", 0)
    model = make_model(family, dtype=dtype)
    scores = score_rows(model, ROWS, tile=3)
    expected = naive(model, ROWS)
    assert scores.logps.dtype == dtype
    torch.testing.assert_close(scores.logps, expected, rtol=0, atol=tolerance)
    for found, wanted in zip(gradients(model, scores.logps), gradients(model, expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_padding_nor_row_order_changes_a_score(family):
    model = make_model(family)
    with torch.no_grad():
        together = score_rows(model, ROWS, tile=64)
        backwards = score_rows(model, ROWS[::-1], tile=64)
        for row in range(len(ROWS)):
            alone = score_rows(model, [ROWS[row]], tile=64).logps
            place = together.response_index == row
            other_place = backwards.response_index == len(ROWS) - 1 - row
            torch.testing.assert_close(together.logps[place], alone, rtol=0, atol=1e-6)
            torch.testing.assert_close(backwards.logps[other_place], alone, rtol=0, atol=1e-6)


def test_indices_say_whose_token_it_is_and_where():
    scores = score_rows(make_model("llama"), ROWS[:2], tile=64)
    assert scores.response_index.tolist() == [0, 0, 0, 1]
    assert scores.position.tolist() == [0, 1, 2, 0]


def test_prompt_tokens_are_scored_on_request_at_negative_positions():
    model = make_model("gpt2", dtype=torch.float64)
    scores = score_rows(model, ROWS[:2], tile=64, prompt_tokens=True)
    torch.testing.assert_close(scores.logps, naive(model, ROWS[:2], first=1), rtol=0, atol=1e-12)
    assert scores.position.tolist() == [-2, -1, 0, 1, 2, 0]
    assert torch.equal(scores.logps[scores.position >= 0], score_rows(model, ROWS[:2], tile=64).logps)


@pytest.mark.parametrize("kept", [0, head.KEPT_BYTES])
def test_statistics_are_those_of_the_whole_distribution_and_carry_no_gradient(kept, monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", kept)
    model = make_model("qwen2", dtype=torch.float64)
    scores = score_rows(model, ROWS[:1], tile=2, statistics=frozenset(head.STATISTICS))
    prompt, response = ROWS[0]
    probs = model(input_ids=torch.tensor([[*prompt, *response]])).logits.softmax(-1)[0, len(prompt) - 1 : -1]
    torch.testing.assert_close(scores.statistics["log_sum_sq"], probs.square().sum(-1).log())
    torch.testing.assert_close(scores.statistics["entropy"], -(probs * probs.log()).sum(-1))
    assert not any(values.requires_grad for values in scores.statistics.values())


@pytest.mark.parametrize("kept", [0, head.KEPT_BYTES])
def test_divergences_are_those_of_whole_distributions_and_carry_the_policys_gradient(kept, monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", kept)
    model, reference = (make_model(family, dtype=torch.float64) for family in ("qwen2", "gemma2"))
    asked = {"statistics": frozenset({*head.DIVERGENCES, "entropy"}), "reference": reference}
    scores = score_rows(model, ROWS[:1], tile=2, **asked)
    prompt, response = ROWS[0]
    own, other = (
        m(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        for m in (model, reference)
    )
    expected = {
        "kl_ref_policy": nn.functional.kl_div(own, other.detach(), reduction="none", log_target=True).sum(-1),
        "kl_policy_ref": nn.functional.kl_div(other.detach(), own, reduction="none", log_target=True).sum(-1),
    }
    for name, values in expected.items():
        torch.testing.assert_close(scores.statistics[name], values)
    both = [sum((k + 1) * values[name] for k, name in enumerate(expected)) for values in (scores.statistics, expected)]
    for found, wanted in zip(*(gradients(model, values) for values in both), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert not scores.statistics["entropy"].requires_grad
    assert all(parameter.grad is None for parameter in reference.parameters())
    torch.testing.assert_close(scores.logps, score_rows(model, ROWS[:1], tile=2).logps, rtol=1e-12, atol=1e-12)


def test_a_reference_with_another_vocabulary_is_refused():
    model, reference = make_model("llama"), make_model("llama")
    reference.config.vocab_size += 1
    with pytest.raises(SettingsError, match="the policy has 384 tokens, the reference 385"):
        score_rows(model, ROWS, tile=64, statistics=frozenset({"kl_ref_policy"}), reference=reference)


def test_an_unknown_statistic_answers_with_the_nearest_name():
    with pytest.raises(SettingsError, match="did you mean `entropy`"):
        score_rows(make_model("llama"), ROWS, tile=64, statistics=frozenset({"entropie"}))


def test_only_scored_positions_reach_the_head_and_no_more_than_a_tile_at_once(monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", 0)
    model = make_model("llama")
    with RecordedShapes() as made:
        scores = score_rows(model, ROWS, tile=4)
        forward = list(made.shapes)
        scores.logps.sum().backward()
    transposed = (32, 384)  # the head's weight
    assert max(shape[0] for shape in made.shapes if shape[1:] == (384,) and shape != transposed) == 4
    assert (len(scores.logps), 32) in forward
    assert len(scores.logps) == sum(len(response) for _, response in ROWS)


@pytest.mark.parametrize("kept", [0, head.KEPT_BYTES])
@pytest.mark.parametrize("family", ["qwen2", "granite"])
def test_a_head_with_adapters_gives_the_naive_values_and_gradients(family, kept, monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", kept)
    model = make_model(family, dtype=torch.float64)
    adapters = AdapterSettings(lora_target_modules=("lm_head",))
    policy = add_adapters(Policy(model, make_tokenizer("chatml"), "tiny"), adapters)
    weights = {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        for weight in weights.values():
            weight += 0.1
    scores, expected = score_rows(policy.model, ROWS, tile=3).logps, naive(policy.model, ROWS)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-12)
    both = [torch.autograd.grad(logps.square().sum(), list(weights.values())) for logps in (scores, expected)]
    for found, wanted in zip(*both, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    with scoring_mode(policy.model), adapters_off(policy.model):
        torch.testing.assert_close(score_rows(policy.model, ROWS, tile=3).logps, naive(policy.model, ROWS))


class Doubling(torch.Tensor):
    """A weight with a product of its own, as quantised ones have."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        made = super().__torch_function__(function, types, args, kwargs or {})
        return made.as_subclass(torch.Tensor) * 2 if function is nn.functional.linear else made


def double(module, inputs, output):
    return 2 * output


def doubled(module):
    return lambda hidden: 2 * nn.functional.linear(hidden, module.weight)


CHANGES = {
    "hook": lambda module: module.register_forward_hook(double),
    "forward": lambda module: setattr(module, "forward", doubled(module)),
    "weight": lambda module: setattr(module, "weight", nn.Parameter(module.weight.detach().as_subclass(Doubling))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_head_that_is_more_than_its_weight_is_called_as_the_model_calls_it(change):
    model = make_model("qwen2", dtype=torch.float64)
    plain = naive(model, ROWS)
    CHANGES[change](model.lm_head)
    expected = naive(model, ROWS)
    assert not torch.allclose(expected, plain, atol=0.1)
    torch.testing.assert_close(score_rows(model, ROWS, tile=3).logps, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [0, head.KEPT_BYTES])
def test_checkpointing_the_body_changes_gradients_by_rounding_only(kept, monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", kept)
    plain = gradients(model := make_model("llama").train(), score_rows(model, ROWS, tile=3).logps)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for found, wanted in zip(gradients(model, score_rows(model, ROWS, tile=3).logps), plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kept", [0, head.KEPT_BYTES])
def test_autocast_changes_scores_by_no_more_than_half_precision(kept, monkeypatch):
    monkeypatch.setattr(head, "KEPT_BYTES", kept)
    model = make_model("qwen2")
    with torch.autocast("cpu", torch.bfloat16):
        scores, expected = score_rows(model, ROWS, tile=3).logps, naive(model, ROWS)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected.float(), rtol=0, atol=0.1)
    for found, wanted in zip(gradients(model, scores), gradients(model, expected), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.1 * float(wanted.abs().max()))


def test_dropout_is_off_while_scoring_and_back_on_afterwards():
    model = make_model("gpt2").train()
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    with scoring_mode(model):
        first, second = score_rows(model, ROWS, tile=64), score_rows(model, ROWS, tile=64)
    assert torch.equal(first.logps, second.logps)
    assert not first.logps.requires_grad
    assert model.training
    assert not torch.equal(score_rows(model, ROWS, tile=64).logps, first.logps)


@pytest.mark.parametrize("row", [((), (1,)), ((1,), ())], ids=["prompt", "response"])
def test_rows_without_tokens_are_refused(row):
    with pytest.raises(DataError, match="without tokens"):
        score_rows(make_model("llama"), [ROWS[0], row], tile=64)


@pytest.mark.parametrize("family", FAMILIES)
def test_known_heads_pass_the_check(family):
    check_head(make_model(family))


def test_a_head_that_fairplay_does_not_know_is_refused(monkeypatch):
    monkeypatch.setattr(head, "LOGIT_TRANSFORMS", {})
    for family in ("gemma2", "cohere", "granite"):
        with pytest.raises(DataError, match="does not know"):
            check_head(make_model(family))
