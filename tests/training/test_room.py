"""Too little memory is said before the first step, with what would take less."""

import logging

import pytest

from fairplay.errors import ResourceError
from fairplay.models import free_memory
from fairplay.models.settings import ModelSettings
from fairplay.training.memory import GIB, MemoryEstimate
from fairplay.training.room import check_room, remedies
from fairplay.training.settings import TrainingSettings
from training.tiny import run, save_tiny_policy

# 8 GiB beside the weights: 4 for gradients and states, 4 in a pass.
ESTIMATE = MemoryEstimate(16 * GIB, 0, GIB, 3 * GIB, 3 * GIB, GIB, GIB)
FULL, LOADED = TrainingSettings(), ModelSettings()


def test_what_fits_passes_without_a_word_and_so_does_what_is_not_known(caplog):
    check_room(ESTIMATE, 8 * GIB, FULL, LOADED)
    check_room(ESTIMATE, None, FULL, LOADED)
    assert caplog.text == ""


def test_what_may_not_fit_is_warned_of_and_what_can_not_is_refused(caplog):
    with caplog.at_level(logging.WARNING):
        check_room(ESTIMATE, 7 * GIB, FULL, LOADED)
    assert "needs 8 GiB beside the weights (activations 3" in caplog.text
    assert "and 7 are free; it may not be enough" in caplog.text
    with pytest.raises(ResourceError, match="needs 8 GiB beside the weights") as refusal:
        check_room(ESTIMATE, 6 * GIB, FULL, LOADED)
    assert "gradient_checkpointing" in refusal.value.hint


@pytest.mark.parametrize(
    ("settings", "loading", "said", "not_said"),
    [
        (FULL, LOADED, ("bfloat16", "use_peft", "adamw_torch_8bit", "batch_size"), ()),
        (TrainingSettings(use_peft=True), LOADED, ("gradient_checkpointing",), ("use_peft", "8bit")),
        (
            TrainingSettings(gradient_checkpointing=True),
            ModelSettings(dtype="bfloat16"),
            (),
            ("ckpointing", "bfloat16"),
        ),
        (TrainingSettings(max_tokens_per_micro_batch=9), LOADED, ("max_tokens",), ("batch_size",)),
    ],
)
def test_what_is_advised_is_not_set_already(settings, loading, said, not_said):
    told = " or ".join(remedies(ESTIMATE, settings, loading))
    assert all(word in told for word in said)
    assert not any(word in told for word in not_said)


def test_the_larger_part_is_mended_first():
    states = MemoryEstimate(0, 0, 8 * GIB, 16 * GIB, GIB, GIB, GIB)
    assert "dtype" in remedies(states, FULL, LOADED)[0]
    assert "gradient_checkpointing" in remedies(MemoryEstimate(0, 0, 0, 0, GIB, GIB, 0), FULL, LOADED)[0]


def test_a_training_without_room_ends_before_its_first_step(tmp_path, monkeypatch):
    start = save_tiny_policy(tmp_path / "start")
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:      100 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    with pytest.raises(ResourceError, match="memory: training needs"):
        run(tmp_path, start)
    assert not (tmp_path / "work" / "metrics.jsonl").exists()
