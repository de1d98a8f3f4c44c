"""Golden values: every objective equals the published formula, in value and in gradient."""

import json
from pathlib import Path

import pytest
import torch

from fairplay.errors import DataError
from fairplay.objectives.check import Difference, check_golden


@pytest.fixture(scope="module")
def document(golden: Path) -> dict:
    return json.loads((golden / "golden" / "objectives.json").read_text())


def worst(differences: list[Difference]) -> float:
    return max(max(difference.value, difference.gradient or 0.0) for difference in differences)


def test_values_and_gradients_equal_the_published_formulas(document):
    differences = check_golden(document)
    assert len(differences) == 65
    # The golden gradients are central differences, themselves off by up to 7e-10.
    assert [difference for difference in differences if worst([difference]) > 1e-9] == []
    assert max(difference.value for difference in differences) < 1e-13


def test_float32_is_exact_to_five_digits(document):
    assert [d for d in check_golden(document, dtype=torch.float32) if worst([d]) > 1e-5] == []


def test_a_wrong_golden_value_is_noticed(document):
    entry = document["objectives"]["dpo"]
    wrong = {**document, "objectives": {"dpo": {**entry, "loss": entry["loss"] + 1e-6}}, "listwise": {}}
    assert check_golden(wrong)[0].value == pytest.approx(1e-6, rel=1e-6)


def test_a_missing_parameter_is_named(document):
    without = {**document, "params": {}, "objectives": {"dpo": document["objectives"]["dpo"]}}
    with pytest.raises(DataError, match="beta"):
        check_golden(without)


def test_what_is_not_a_number_is_infinitely_wrong(document):
    entry = document["objectives"]["dpo"]
    wrong = {**document, "objectives": {"dpo": {**entry, "loss": float("nan")}}, "listwise": {}}
    assert check_golden(wrong)[0].value == float("inf")
