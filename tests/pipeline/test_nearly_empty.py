"""A training that selection left next to nothing to learn from says so."""

import pytest

from fairplay.pipeline.stages import warn_of_losses


@pytest.mark.parametrize(
    ("kept", "dropped", "is_told"), [(2, 18, True), (9, 11, True), (10, 10, False), (20, 0, False)]
)
def test_a_loss_of_more_than_half_is_told_with_the_reasons_counted(kept, dropped, is_told, caplog):
    warn_of_losses(3, 20, kept, {"all responses are equal": dropped} if dropped else {})
    assert bool(caplog.records) == is_told
    if is_told:
        told = f"iteration 3 trains on {kept} examples of 20 prompts: selection left out {dropped}"
        assert caplog.records[0].getMessage() == f"{told} ({dropped} x all responses are equal)"
        assert caplog.records[0].levelname == "WARNING"
