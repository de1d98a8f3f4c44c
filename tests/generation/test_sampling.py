"""Drawing by inverse CDF: exact temperature and top-p, and nothing but the row's own numbers decides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairplay.generation.sampling import TokenSampler, inverse_cdf, sampling_probs, uniforms

LOGITS = torch.tensor([[2.0, 0.0, 1.0, -1.0, 1.0]])


def test_uniform_numbers_belong_to_seed_and_position():
    many, few = uniforms([3, 1, 4], 7), uniforms([4, 3], 2)
    assert torch.equal(many[[2, 0], :2], few)
    assert many.dtype == torch.float64
    assert ((many >= 0) & (many < 1)).all()
    assert len(many.unique()) == 21


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_divides_the_logits(temperature):
    probs = sampling_probs(LOGITS, temperature=temperature, top_p=1.0)
    torch.testing.assert_close(probs, (LOGITS.double() / temperature).softmax(-1))


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-9, [0]), (0.5, [0]), (0.56, [0, 2]), (0.8, [0, 2, 4]), (0.95, [0, 1, 2, 4])]
)
def test_top_p_keeps_the_fewest_likeliest_tokens_and_their_ratios(top_p, kept):
    whole = sampling_probs(LOGITS, temperature=1.0, top_p=1.0)[0]
    probs = sampling_probs(LOGITS, temperature=1.0, top_p=top_p)[0]
    assert probs.nonzero()[:, 0].tolist() == kept
    assert torch.equal(probs[kept], whole[kept])
    assert whole[kept].sum() >= top_p
    assert whole[kept].sum() - whole[kept].min() < top_p


def test_the_drawn_shares_are_the_probabilities():
    probs = sampling_probs(LOGITS, temperature=1.0, top_p=0.8)
    grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    tokens = inverse_cdf(probs.expand(len(grid), -1), grid)
    shares = torch.bincount(tokens, minlength=5) / len(grid)
    torch.testing.assert_close(shares.double(), probs[0] / probs.sum(), rtol=0, atol=2e-5)


WEIGHTS = st.lists(st.sampled_from([0.0, 1e-300, 1e-9, 0.3, 1.0]), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-300, 1e-9, 0.3, 1.0]), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True)
)
def test_a_token_of_probability_zero_is_never_drawn(weights, uniform):
    if sum(weights) == 0:
        weights = [*weights, 1.0]
    token = inverse_cdf(torch.tensor([weights], dtype=torch.float64), torch.tensor([uniform], dtype=torch.float64))
    assert weights[token.item()] > 0


def test_the_processor_leaves_one_token_and_takes_the_next_number_at_each_step():
    sampler = TokenSampler([5, 6], 3, temperature=1.0, top_p=1.0, device=torch.device("cpu"))
    logits = LOGITS.expand(2, -1)
    for step in range(3):
        scores = sampler(torch.zeros(2, 1, dtype=torch.long), logits)
        expected = inverse_cdf(logits.double().softmax(-1), uniforms([5, 6], 3)[:, step])
        assert torch.equal(scores.argmax(-1), expected)
        assert torch.isfinite(scores).sum(-1).tolist() == [1, 1]
