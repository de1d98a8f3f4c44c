"""The table: names, parameters, and what is said where they are wrong."""

import math
from dataclasses import replace

import pytest
import torch

from fairplay.errors import DataError, SettingsError
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import FAMILIES, OBJECTIVES, build_objective

from .batches import assemble, random_examples


@pytest.mark.parametrize(("asked", "nearest"), [("simp", "simpo"), ("DPO", "dpo"), ("ipo-sum", "ipo_sum")])
def test_an_unknown_objective_is_refused_with_the_nearest_name(asked, nearest):
    with pytest.raises(SettingsError, match=f"unknown objective `{asked}`") as caught:
        build_objective(asked, {})
    assert nearest in caught.value.hint


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="objective `simpo` has no parameter `gama`") as caught:
        build_objective("simpo", {"gama": 1.0})
    assert caught.value.hint == "did you mean `gamma`?"


def test_a_parameter_of_another_objective_is_refused():
    with pytest.raises(SettingsError, match="`dpo` has no parameter `gamma`"):
        build_objective("dpo", {"gamma": 1.0})
    with pytest.raises(SettingsError) as caught:
        build_objective("simper", {"beta": 1.0})
    assert caught.value.hint == "it takes no parameters"


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("dpo", "beta", 0.0),
        ("dpo", "beta", -0.1),
        ("dpo", "beta", math.nan),
        ("dpo", "beta", math.inf),
        ("dpo", "beta", "0.1"),
        ("dpo", "beta", True),
        ("cdpo", "epsilon", 0.5),
        ("exo_pair", "epsilon", 0.0),
        ("sampo", "draws", 1.5),
        ("sampo", "draws", 0),
        ("ld_dpo", "alpha", 1.1),
        ("sft", "reduction", "mean"),
        ("simpo", "gamma", -1.0),
    ],
)
def test_a_value_outside_its_domain_is_refused_with_what_was_published(name, parameter, value):
    with pytest.raises(SettingsError, match=f"`{parameter}` must be") as caught:
        build_objective(name, {parameter: value})
    assert "published" in caught.value.hint


def test_a_parameter_reaches_the_loss():
    batch = assemble(random_examples(0, responses=2))
    losses = {
        beta: float(evaluate(build_objective("dpo", {"beta": beta}), batch, batch_totals(batch)).loss)
        for beta in (0.1, 0.5)
    }
    assert losses[0.1] != losses[0.5]


def test_no_two_rows_share_a_name_and_no_row_is_lost():
    assert len(OBJECTIVES) == sum(len(rows) for rows in FAMILIES.values())


def test_an_objective_is_named_after_its_row():
    assert all(build_objective(name, {}).name == name for name in OBJECTIVES)


def test_regressions_are_those_with_targets():
    regressions = {name for name in OBJECTIVES if build_objective(name, {}).is_regression}
    assert regressions == {
        "ipo_sum", "ipo_mean", "sppo", "sppo_soft", "sppo_hard", "sppo_log_z", "cal_dpo", "gpo_squared", "inpo",
        "general_preference", "nash_md", "rspo",
    }  # fmt: skip


def test_an_example_without_a_pair_is_refused():
    examples = random_examples(0, responses=2)
    batch = assemble([*examples[:3], replace(examples[3], pairs=())])
    with pytest.raises(DataError, match="a \\(chosen, rejected\\) pair in every example"):
        evaluate(build_objective("dpo", {}), batch, batch_totals(batch))


def test_scores_that_contradict_their_pair_are_refused():
    batch = assemble(random_examples(0, responses=2))
    wrong = replace(batch, columns={**batch.columns, "scores": -batch.columns["scores"]})
    with pytest.raises(DataError, match="a higher score for the chosen"):
        evaluate(build_objective("odpo", {}), wrong, batch_totals(wrong))


@pytest.mark.parametrize("win_rate", [-0.1, 1.5, math.nan])
def test_a_win_rate_that_is_no_probability_is_refused(win_rate):
    batch = assemble(random_examples(0, responses=2))
    wrong = replace(batch, columns={**batch.columns, "win_rates": torch.full_like(batch.columns["scores"], win_rate)})
    with pytest.raises(DataError, match="win rates in"):
        evaluate(build_objective("sppo", {}), wrong, batch_totals(wrong))
