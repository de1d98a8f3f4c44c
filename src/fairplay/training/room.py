"""Free memory held against the estimate before the first step, and what was taken after the last.

Left out: the estimate (`memory.py`), what is free (`models/free_memory.py`). Floor 5.
"""

import ctypes
import logging
import re
from pathlib import Path

import torch

from fairplay.errors import ResourceError
from fairplay.models.settings import ModelSettings
from fairplay.training.distributed import current_ranks
from fairplay.training.memory import GIB, MemoryEstimate
from fairplay.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

# By how much an estimate may be too high (tests/training/test_memory.py): what is above free memory by more can't fit.
TOLERANCE = 1.25


def check_room(
    estimate: MemoryEstimate, free: int | None, settings: TrainingSettings, model_settings: ModelSettings
) -> None:
    """Refuse a training for which memory can't be enough; warn of one for which it may not be.

    Args:
        estimate: What it should take; its weights are there already.
        free: Bytes beside them; None where they are not known.
        settings, model_settings: What could be changed.

    Raises:
        ResourceError: If it takes more than there is even where the estimate is a fourth too high.
    """
    more = estimate.peak - estimate.weights
    if free is None or more <= free:
        return
    parts = {name: getattr(estimate, name) for name in ("activations", "head", "gradients", "optimizer", "gathered")}
    largest = ", ".join(f"{name} {value / GIB:.3g}" for name, value in sorted(parts.items(), key=lambda p: -p[1])[:3])
    told = f"memory: training needs {more / GIB:.3g} GiB beside the weights ({largest}), and {free / GIB:.3g} are free"
    hint = f"less is taken with {' or '.join(remedies(estimate, settings, model_settings))}"
    if more > TOLERANCE * free:
        raise ResourceError(told, hint=hint)
    logger.warning("%s; it may not be enough: %s", told, hint)


def remedies(estimate: MemoryEstimate, settings: TrainingSettings, model_settings: ModelSettings) -> list[str]:
    """Settings that would take less memory, for the larger part of it first."""
    in_a_pass = []
    if not settings.gradient_checkpointing:
        in_a_pass.append("`training.gradient_checkpointing: true`")
    if settings.max_tokens_per_micro_batch:
        in_a_pass.append("a smaller training.max_tokens_per_micro_batch")
    elif settings.per_device_train_batch_size > 1:
        in_a_pass.append("a smaller training.per_device_train_batch_size (with more gradient_accumulation_steps)")
    of_weights = []
    if model_settings.dtype in ("float32", "float64"):
        of_weights.append("`loading.dtype: bfloat16`")
    if not settings.use_peft:
        of_weights.append("`training.use_peft: true`")
        if current_ranks().size == 1:
            of_weights.append("`training.optim: adamw_torch_8bit`")
    states = estimate.gradients + estimate.optimizer
    ordered = of_weights + in_a_pass if states > estimate.activations + estimate.head else in_a_pass + of_weights
    return [*ordered, "more processes (`--nproc-per-node`)"]


class MemoryWatch:
    """Reads how much memory the steps of a training take: what CUDA hands out, or by how much the process grows.

    On a CPU it reads Linux's account of resident pages, after free memory was given back; elsewhere nothing is
    measured. glibc's heap can hold half as much again in holes; `MALLOC_MMAP_THRESHOLD_=65536` in the environment
    avoids that.
    """

    def __init__(self, device: torch.device, held: int) -> None:
        """Begin before the first step.

        Args:
            device: Where the models live.
            held: Bytes of the models, which are there by now; they are counted in.
        """
        self.device = device
        self.held = held
        self.before: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        elif device.type == "cpu" and _forget_peak():
            self.before = _resident("VmRSS")

    def peak(self) -> int | None:
        """Bytes of the models and of all that came on top at the peak; None where this system does not tell."""
        now = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _resident("VmHWM")
        return None if now is None or self.before is None else now - self.before + self.held


def _forget_peak() -> bool:
    """Give free memory back and let the peak of resident pages begin anew; false where that can't be done."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _resident(entry: str) -> int | None:
    try:
        found = re.search(rf"{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
