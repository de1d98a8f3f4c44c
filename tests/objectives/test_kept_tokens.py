"""SamPO's draw: which tokens are kept, and by whom."""

from dataclasses import replace

import pytest
import torch

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch
from fairplay.objectives.comparisons import RepeatedPairs
from fairplay.objectives.evaluate import at_reference, evaluate
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.sides import Comparisons, Seating
from fairplay.objectives.table import build_objective
from fairplay.objectives.tokens import Kept

from .batches import assemble, random_examples, with_policy, with_reference


def kept_by(batch: PreferenceBatch, *, seed: int = 0, draws: int = 1) -> Comparisons:
    return Seating(batch, Kept(), torch.sub, seed).seat(RepeatedPairs(draws)(batch.structure))


def kept_positions(batch: PreferenceBatch, **draw: int) -> list[list[int]]:
    chosen = kept_by(batch, **draw).chosen
    positions, rows = chosen.sums.seated.position, chosen.sums.seated.row
    return [positions[(rows == row) & (chosen.sums.weights == 1)].tolist() for row in range(len(chosen.response))]


def pair_batch(seed: int = 0, count: int = 4) -> PreferenceBatch:
    return assemble(random_examples(seed, count=count, responses=2, most_tokens=9))


def long_and_short(num_pairs: int, long: int, short: int) -> PreferenceBatch:
    """Pairs whose chosen response has `long` tokens and whose rejected one has `short`."""
    examples = []
    for example in random_examples(0, count=num_pairs, responses=2, most_tokens=1):
        lengths = (long, short, 1)
        cut = {
            name: tuple(t.expand(n) for t, n in zip(v, lengths, strict=True)) for name, v in example.statistics.items()
        }
        grown = tuple(tokens.expand(n) for tokens, n in zip(example.policy, lengths, strict=True))
        examples.append(replace(example, policy=grown, reference=grown, statistics=cut, pairs=((0, 1),)))
    return assemble(examples)


def test_both_sides_keep_as_many_tokens_as_the_shorter_has_and_only_the_longer_is_cut():
    batch = pair_batch(count=20)
    comparisons = kept_by(batch)
    for side, other in ((comparisons.chosen, comparisons.rejected), (comparisons.rejected, comparisons.chosen)):
        kept = torch.zeros_like(side.lengths).index_add(0, side.sums.seated.row, side.sums.weights)
        assert torch.equal(kept, torch.minimum(side.lengths, other.lengths))
        assert set(side.sums.weights.tolist()) <= {0.0, 1.0}


def test_policy_and_reference_keep_the_same_tokens_so_the_margin_is_zero_where_they_agree():
    batch = at_reference(pair_batch(count=20))
    output = evaluate(build_objective("sampo", {"draws": 3}), batch, batch_totals(batch))
    torch.testing.assert_close(output.example_losses, torch.full_like(output.example_losses, 2.0).log(), rtol=0, atol=0)


def test_every_subset_of_tokens_is_kept_equally_often():
    long, short, num_pairs, draws = 6, 2, 30, 100
    batch = long_and_short(num_pairs, long, short)
    chosen = kept_by(batch, draws=draws).chosen
    kept = batch.logps.position[chosen.sums.seated.token][chosen.sums.weights == 1].reshape(num_pairs * draws, short)
    counts = torch.unique(kept.sort(dim=1).values, dim=0, return_counts=True)[1].to(torch.float64)
    assert len(counts) == 15
    expected = num_pairs * draws / 15
    assert ((counts - expected) ** 2 / expected).sum() < 36.1  # 0.999 quantile, 14 degrees of freedom; deterministic


def test_the_draw_depends_on_the_example_and_not_on_its_place_in_the_batch():
    examples = random_examples(0, count=6, responses=2, most_tokens=9)
    alone = [kept_positions(assemble([example]))[0] for example in examples]
    assert kept_positions(assemble(examples)) == alone
    assert kept_positions(assemble(examples[::-1])) == alone[::-1]


def test_another_seed_epoch_draw_or_example_key_draws_anew():
    batch = long_and_short(1, 40, 10)
    draws = kept_positions(batch, draws=2)
    others = [
        kept_positions(batch, seed=1)[0],
        kept_positions(replace(batch, epoch=1))[0],
        kept_positions(replace(batch, example_keys=batch.example_keys + 1))[0],
        draws[1],
    ]
    assert draws[0] == kept_positions(batch)[0]
    assert len({tuple(positions) for positions in [draws[0], *others]}) == 5


def test_many_draws_approach_the_exact_expectation():
    batch = pair_batch()
    exact = evaluate(build_objective("sampo_expected", {"beta": 0.5}), batch, batch_totals(batch)).loss
    sampled = evaluate(build_objective("sampo", {"beta": 0.5, "draws": 4000}), batch, batch_totals(batch)).loss
    assert float(sampled) == pytest.approx(float(exact), abs=2e-3)


def test_the_form_for_evaluation_takes_every_draw_at_its_mean():
    batch = pair_batch()
    drawn = build_objective("sampo", {"beta": 0.5, "draws": 4000})
    for name in ("sampo", "sampo_expected"):
        expected = build_objective(name, {"beta": 0.5}).in_expectation()
        mean = build_objective("sampo_mean", {"beta": 0.5})
        one, other = (evaluate(form, batch, batch_totals(batch)) for form in (expected, mean))
        assert torch.equal(one.example_losses, other.example_losses)
    comparisons = Seating(batch, drawn.tokens, torch.sub, seed=0).seat(drawn.comparison(batch.structure))
    margins = (comparisons.chosen.rewards - comparisons.rejected.rewards).reshape(len(batch.pairs), -1).mean(dim=1)
    torch.testing.assert_close(0.5 * margins, other.margins, rtol=0, atol=0.05)


def test_the_gradient_reaches_kept_tokens_only():
    batch = long_and_short(5, 8, 3)
    leaf = batch.logps.policy.clone().requires_grad_()
    evaluate(build_objective("sampo", {}), with_policy(batch, leaf), batch_totals(batch)).loss.backward()
    kept = kept_positions(batch)
    for pair, response in enumerate(batch.pairs[:, 0].tolist()):
        of_response = leaf.grad[batch.logps.response_index == response]
        assert of_response.nonzero().flatten().tolist() == sorted(kept[pair])


def test_an_expectation_over_too_many_subsets_is_refused():
    batch = long_and_short(1, 40, 20)
    with pytest.raises(DataError, match="every subset") as caught:
        evaluate(build_objective("sampo_expected", {}), batch, batch_totals(batch))
    assert "sampo_mean" in caught.value.hint


def test_as_released_the_margin_at_the_reference_is_noise_that_shared_draws_do_not_have():
    """Two independent choices of 10 of 40 tokens: the margin is the difference of two sample sums."""
    batch = long_and_short(300, 40, 10)
    spread = 1.2
    noise = spread * torch.randn(
        len(batch.logps.policy), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    batch = at_reference(with_reference(batch, noise - 5.0))
    losses = {
        name: evaluate(build_objective(name, {"beta": 0.1}), batch, batch_totals(batch)).example_losses
        for name in ("sampo", "sampo_as_released")
    }
    torch.testing.assert_close(losses["sampo"], torch.full_like(losses["sampo"], 2.0).log(), rtol=0, atol=0)
    margins = -torch.expm1(losses["sampo_as_released"]).log()  # inverts the logistic loss
    expected = 0.1 * spread * (2 * 10 * (1 - 10 / 40)) ** 0.5
    assert float(margins.std()) == pytest.approx(expected, rel=0.15)
    assert abs(float(margins.mean())) < 4 * expected / 300**0.5


def test_as_released_what_is_evaluated_is_the_same_expectation_as_of_shared_draws():
    batch = pair_batch()
    released, shared = (build_objective(name, {"beta": 0.5}) for name in ("sampo_as_released", "sampo_mean"))
    expected = evaluate(released.in_expectation(), batch, batch_totals(batch)).example_losses
    assert torch.equal(expected, evaluate(shared, batch, batch_totals(batch)).example_losses)
    drawn = evaluate(released, batch, batch_totals(batch))
    assert torch.equal(drawn.margins, evaluate(shared, batch, batch_totals(batch)).margins)
    assert not torch.equal(drawn.example_losses, expected)
