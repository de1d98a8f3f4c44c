"""Training settings refuse what could not work, all faults at once, and know only names that exist."""

import subprocess
import sys

import pytest

from fairplay.training.optimizers import OPTIMIZERS
from fairplay.training.settings import OPTIMIZER_NAMES, SCHEDULE_NAMES, TRACKER_NAMES, TrainingSettings
from fairplay.training.trackers import TRACKERS


def test_all_faults_are_named_at_once():
    with pytest.raises(ValueError, match="learning_rate") as caught:
        TrainingSettings(learning_rate=0.0, optim="adamw_torsh", max_steps=0, lr_scheduler_type="lineer")
    text = str(caught.value)
    assert "did you mean `adamw_torch`?" in text
    assert "did you mean `linear`?" in text
    assert "max_steps" in text


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        ("lora_r", {"lora_r": 8}),
        ("gradient_checkpointing_share: without effect", {"gradient_checkpointing_share": 0.5}),
        (
            r"gradient_checkpointing_share: must be in \(0, 1\]",
            {"gradient_checkpointing": True, "gradient_checkpointing_share": 0.0},
        ),
        ("max_prompt_length", {"max_prompt_length": 2048}),
        ("warmup_ratio", {"lr_scheduler_type": "constant"}),
        ("lr_scheduler_kwargs", {"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": {"power": 1.0}}),
        ("adam_beta2", {"adam_beta2": 1.0}),
        ("max_grad_norm", {"max_grad_norm": -1.0}),
        ("learning_rate", {"learning_rate": float("nan")}),
        ("save_steps", {"save_steps": -1}),
        ("prompt_loss_weight", {"prompt_loss_weight": 1.5}),
        ("reference_schedule: unknown name `every_epochs`", {"reference_schedule": "every_epochs"}),
        ("every_epoch` is without effect", {"reference_schedule": "every_epoch"}),
        ("reference_sync_steps: must be at least 1", {"reference_schedule": "every_steps"}),
        ("reference_sync_steps: without effect", {"reference_sync_steps": 8}),
        (
            "reference_mixup_alpha: without effect",
            {"reference_mixup_alpha": 0.6, "reference_schedule": "every_epoch", "num_train_epochs": 2.0},
        ),
        (
            r"reference_mixup_alpha: must be in \(0, 1\], is 0.0",
            {"reference_schedule": "every_steps", "reference_sync_steps": 8, "reference_mixup_alpha": 0.0},
        ),
        (
            "adapters can't be mixed",
            {
                "reference_schedule": "every_steps",
                "reference_sync_steps": 8,
                "reference_mixup_alpha": 0.6,
                "use_peft": True,
            },
        ),
        (
            "lora_dropout: a renewed reference",
            {"lora_dropout": 0.1, "use_peft": True, "reference_schedule": "every_steps", "reference_sync_steps": 8},
        ),
        ("report_to", {"report_to": ("wandbb",)}),
    ],
)
def test_a_setting_without_effect_or_out_of_range_is_refused(named, refused):
    with pytest.raises(ValueError, match=named):
        TrainingSettings(**refused)


def test_names_at_the_door_are_the_names_of_the_tables():
    assert sorted(OPTIMIZERS) == list(OPTIMIZER_NAMES)
    assert sorted(TRACKERS) == list(TRACKER_NAMES)


def test_every_schedule_name_is_one_of_transformers():
    from transformers import SchedulerType

    assert set(SCHEDULE_NAMES) <= {schedule.value for schedule in SchedulerType}


def test_settings_load_no_torch():
    code = "import sys, fairplay.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
