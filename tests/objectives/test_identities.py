"""Where published objectives meet: rows that must agree at special parameters or on special data."""

import math
from dataclasses import replace

import pytest
import torch

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch, TokenLogps
from fairplay.objectives.evaluate import evaluate, token_gradient
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import build_objective

from .batches import assemble, random_examples

BETA = {"beta": 0.4}
SAME = (
    ("cdpo", {**BETA, "epsilon": 0.0}, "dpo", BETA, 1.0),
    ("robust", {**BETA, "epsilon": 0.0}, "dpo", BETA, 1.0),
    ("rdpo", {**BETA, "alpha": 0.0}, "dpo", BETA, 1.0),
    ("ld_dpo", {**BETA, "alpha": 1.0}, "dpo", BETA, 1.0),
    ("dpop", {**BETA, "lam": 0.0}, "dpo", BETA, 1.0),
    ("odpo", {**BETA, "alpha": 0.0}, "dpo", BETA, 1.0),
    ("rpo_nll", {**BETA, "alpha": 0.0}, "dpo", BETA, 1.0),
    ("cpo", {**BETA, "alpha": 0.0}, "cpo_no_nll", BETA, 1.0),
    ("infonca_pair", {**BETA, "alpha": 1e-5}, "dpo", BETA, 1.0),
    ("infonca_reward", {**BETA, "alpha": 0.3}, "infonca_pair", {**BETA, "alpha": 0.3}, 1.0),
    ("nca_reward", {**BETA, "alpha": 1e-5}, "nca_pair", BETA, 1.0),
    ("plackett_luce_dpo", BETA, "dpo", BETA, 1.0),
    ("lipo_pairwise_logistic", BETA, "dpo", BETA, 1.0),
    ("sppo", {"eta": 3.0}, "sppo_soft", {"eta": 3.0}, 1.0),
    ("gpo_squared", BETA, "ipo_sum", {"tau": 0.2}, 0.16),
    ("inpo", {"eta": 0.2, "ratio": 0.0}, "ipo_sum", {"tau": 0.2}, 1.0),
    ("simpo_sft", {"beta": 2.0, "gamma": 1.0, "alpha": 0.0}, "simpo", {"beta": 2.0, "gamma": 1.0}, 1.0),
    ("alphapo", {"beta": 2.0, "gamma": 1.0, "alpha": 1e-9}, "simpo", {"beta": 2.0, "gamma": 1.0}, 1.0),
    ("alpha_dpo", {"beta": 2.0, "gamma": 1.0, "alpha": 0.0}, "simpo", {"beta": 2.0, "gamma": 1.0}, 1.0),
    ("fdpo_alpha", {**BETA, "alpha": 1e-9}, "dpo", BETA, 1.0),
    ("beta_dpo", {**BETA, "alpha": 0.0}, "dpo", BETA, 1.0),
    ("dr_dpo", {**BETA, "beta_prime": 1e7}, "dpo", BETA, 1.0),
    ("chi_po", {**BETA, "limit": 1e-12}, "chi_po", {**BETA, "limit": 2e-12}, 1.0),
    ("rspo", {"eta": 3.0, "lam_f": 0.0, "lam_r": 0.0}, "sppo", {"eta": 3.0}, 1.0),
    ("nash_md", {"eta": 3.0, "tau": 0.0}, "sppo", {"eta": 3.0}, 1.0),
    ("rrhf", {"lam": 0.0}, "rrhf_rank", {}, 1.0),
    ("mpo", {**BETA, "preference": 1.0, "quality": 0.0, "generation": 0.0}, "dpo", BETA, 1.0),
    ("mpo", {**BETA, "preference": 0.0, "quality": 2.0, "generation": 0.0}, "bco_pair", BETA, 2.0),
    ("mpo", {"preference": 0.0, "quality": 0.0, "generation": 1.0, "reduction": "token"}, "sft", {}, 1.0),
)


def loss_of(name: str, parameters: dict[str, object], batch: PreferenceBatch) -> float:
    return float(evaluate(build_objective(name, parameters), batch, batch_totals(batch)).loss)


def every_response(policy, reference, statistics) -> PreferenceBatch:
    """One example whose responses have one token each, and all the same win rate."""
    count = len(policy)
    return PreferenceBatch(
        logps=TokenLogps(
            policy=policy,
            reference=reference,
            response_index=torch.arange(count),
            position=torch.zeros(count, dtype=torch.int64),
            num_responses=count,
            statistics=statistics,
        ),
        example_index=torch.zeros(count, dtype=torch.int64),
        num_examples=1,
        pairs=torch.zeros(0, 2, dtype=torch.int64),
        example_keys=torch.zeros(1, dtype=torch.int64),
        columns={"win_rates": torch.full((count,), 0.5, dtype=torch.float64)},
    )


@pytest.fixture
def batch() -> PreferenceBatch:
    return assemble(random_examples(5, count=5, responses=2))


@pytest.mark.parametrize(("name", "parameters", "other", "others", "factor"), SAME)
def test_rows_meet_where_the_papers_say_so(batch, name, parameters, other, others, factor):
    assert loss_of(name, parameters, batch) == pytest.approx(factor * loss_of(other, others, batch), rel=1e-6)


@pytest.mark.parametrize("name", ["sampo", "sampo_mean", "sampo_expected", "dpo_sanorm"])
def test_between_equal_lengths_the_length_remedies_are_dpo(name):
    examples = random_examples(1, responses=2, most_tokens=1)
    batch = assemble(examples)
    assert loss_of(name, BETA, batch) == pytest.approx(loss_of("dpo", BETA, batch), rel=1e-12)


def test_kto_without_drift_is_half_of_apo_zero(batch):
    is_anchor = batch.columns["anchors"][batch.logps.response_index] == 1
    logps = replace(batch.logps, reference=torch.where(is_anchor, batch.logps.policy, batch.logps.reference))
    pairs_only = {name: values for name, values in batch.columns.items() if name != "labels"}
    still = replace(batch, logps=logps, columns=pairs_only)
    assert loss_of("kto", BETA, still) == pytest.approx(0.5 * loss_of("apo_zero", BETA, still), rel=1e-12)


def test_kto_learns_the_same_from_pairs_and_from_their_labels(batch):
    from_labels = replace(batch, pairs=batch.pairs[:0])
    from_pairs = replace(batch, columns={"anchors": batch.columns["anchors"]})
    labels = torch.zeros_like(batch.columns["labels"])
    labels[batch.pairs[:, 0]] = 1.0
    from_labels = replace(from_labels, columns={**batch.columns, "labels": labels})
    parameters = {"beta": 0.4, "lam_d": 1.2, "lam_u": 0.7}
    assert loss_of("kto", parameters, from_labels) == pytest.approx(loss_of("kto", parameters, from_pairs), rel=1e-12)


def test_kto_refuses_a_batch_without_anchor_rows(batch):
    without = replace(batch, columns={name: batch.columns[name] for name in ("labels", "scores")})
    with pytest.raises(DataError, match="anchor rows") as caught:
        loss_of("kto", {}, without)
    assert "apo_zero" in caught.value.hint


def test_hard_sppo_is_twice_soft_sppo_at_certain_win_rates(batch):
    certain = torch.zeros_like(batch.columns["win_rates"])
    certain[batch.pairs[:, 0]] = 1.0
    hard = replace(batch, columns={**batch.columns, "win_rates": certain})
    assert loss_of("sppo_hard", {"eta": 3.0}, hard) == pytest.approx(2 * loss_of("sppo_soft", {"eta": 3.0}, hard))


def test_sppo_is_the_mean_over_all_responses_of_the_squared_miss():
    batch = assemble(random_examples(2, responses=4))
    logratios = batch.logps.sum_per_response(batch.logps.policy - batch.logps.reference)
    misses = (logratios - 3.0 * (batch.columns["win_rates"] - 0.5)).square()[batch.columns["anchors"] == 0]
    assert loss_of("sppo", {"eta": 3.0}, batch) == pytest.approx(float(misses.mean()), rel=1e-12)


def test_the_estimated_normaliser_makes_the_targets_a_distribution():
    """Under the target, the responses' mean probability ratio is 1, which is what log Z is for."""
    batch = assemble(random_examples(2, responses=4))
    objective = build_objective("sppo_log_z", {"eta": 3.0})
    gains = 3.0 * batch.columns["win_rates"][batch.columns["anchors"] == 0].reshape(4, 4)
    targets = gains - gains.logsumexp(dim=1, keepdim=True) + torch.log(torch.tensor(4.0, dtype=torch.float64))
    torch.testing.assert_close(targets.exp().mean(dim=1), torch.ones(4, dtype=torch.float64))
    logratios = batch.logps.sum_per_response(batch.logps.policy - batch.logps.reference)
    learned = logratios[batch.columns["anchors"] == 0].reshape(4, 4)
    loss = float(evaluate(objective, batch, batch_totals(batch)).loss)
    assert loss == pytest.approx(float((learned - targets).square().mean()), rel=1e-12)


def test_rrhf_is_its_ranking_and_its_likelihood():
    batch = assemble(random_examples(2, responses=4))
    parts = loss_of("rrhf_rank", {}, batch) + 0.7 * loss_of("rrhf_sft", {}, batch)
    assert loss_of("rrhf", {"lam": 0.7}, batch) == pytest.approx(parts, rel=1e-12)


@pytest.mark.parametrize("lam_f", [0.0, 0.3])
@pytest.mark.parametrize("lam_r", [0.0, 0.8])
def test_rspo_pulls_towards_its_anchor_with_the_gradients_of_both_kl_divergences(lam_f, lam_r):
    """Over all three one-token responses of a uniform pi_t, the added terms' gradient in the logits is exact."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    log_mu = torch.log(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    still = torch.full((3,), -math.log(3), dtype=torch.float64)
    batch = every_response(logits.log_softmax(0), still, {"anchor_logratios": log_mu - still})
    rspo = build_objective("rspo", {"eta": 3.0, "lam_f": lam_f, "lam_r": lam_r})
    added = evaluate(rspo, batch, batch_totals(batch)).loss
    added = added - evaluate(build_objective("sppo", {"eta": 3.0}), batch, batch_totals(batch)).loss
    log_pi = logits.log_softmax(0)
    reverse = (log_pi.exp() * (log_pi - log_mu)).sum()
    forward = (log_mu.exp() * (log_mu - log_pi)).sum()
    (ours,) = torch.autograd.grad(added, logits, retain_graph=True)
    (exact,) = torch.autograd.grad(2 * lam_r * reverse + lam_f * forward, logits)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-15)


def test_rspo_with_doubled_weights_is_its_authors_loss_of_a_pair():
    """Written out from xiaohangt/RSPO sppo/trainer_reg.py: squares halved, regularisers summed over the pair."""
    policy, previous, anchor = (
        torch.tensor(x, dtype=torch.float64) for x in ([-2.0, -7.0], [-3.0, -5.0], [-4.0, -4.5])
    )
    batch = every_response(policy, previous, {"anchor_logratios": anchor - previous})
    won = torch.tensor([0.9, 0.2], dtype=torch.float64)
    batch = replace(batch, columns={"win_rates": won})
    squares = ((policy - previous - 1000.0 * (won - 0.5)) ** 2).sum() / 2
    reverse, forward = ((policy - anchor) ** 2).sum(), (anchor - policy).clamp(max=10.0).exp().sum()
    ours = loss_of("rspo", {"eta": 1000.0, "lam_f": 2 * 0.1, "lam_r": 2 * 0.5}, batch)
    assert ours == pytest.approx(float(squares + 0.1 * forward + 0.5 * reverse), rel=1e-14)


def test_rspo_has_no_gradient_of_the_forward_kl_where_the_ratio_is_clipped():
    policy = torch.tensor([-30.0, -1.0, -1.0], dtype=torch.float64, requires_grad=True)
    batch = every_response(policy, policy.detach(), {"anchor_logratios": torch.tensor([25.0, 0.0, 0.0])})
    objective = build_objective("rspo", {"eta": 1e-9, "lam_f": 1.0, "lam_r": 0.0})
    (gradient,) = torch.autograd.grad(evaluate(objective, batch, batch_totals(batch)).loss, policy)
    assert float(gradient[0]) == pytest.approx(0.0, abs=1e-9)
    assert gradient[1:].tolist() == pytest.approx([-1 / 3, -1 / 3])


def test_a_loss_diverges_as_a_straight_line_where_its_exponential_would_overflow(batch):
    far = replace(batch, logps=replace(batch.logps, policy=-1e3 * torch.ones_like(batch.logps.policy)))
    gradient, output = token_gradient(build_objective("gpo_exponential", {}), far, batch_totals(far))
    assert output.loss.isfinite()
    assert gradient.isfinite().all()


def test_nash_mds_regression_is_met_by_its_tabular_step():
    """From a uniform pi_t: log pi = (1 - eta tau) log pi_t + eta tau log mu + eta (P - 1/2) is where the loss is 0."""
    eta, tau = 3.0, 0.1
    log_mu = torch.log(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    still = torch.full((3,), -math.log(3), dtype=torch.float64)
    won = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64)
    step = (1 - eta * tau) * still + eta * tau * log_mu + eta * (won - 0.5)
    batch = replace(every_response(step, still, {"anchor_logratios": log_mu - still}), columns={"win_rates": won})
    assert loss_of("nash_md", {"eta": eta, "tau": tau}, batch) == pytest.approx(0.0, abs=1e-28)
    assert loss_of("sppo", {"eta": eta}, batch) > 0.01
