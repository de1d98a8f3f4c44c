"""What memory is free: of a GPU, of this machine, below a container's limit.

Left out: what is going to be taken of it (`training/room.py`, `generation/room.py`). Floor 3.
"""

import os
import re
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of a container; its limit and what it uses


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process can still take on the device; None where the system does not tell.

    Args:
        device: A GPU, or the CPU, whose memory the processes of this machine share evenly.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [value for value in (_available(), _below_limit()) if value is not None]
    return min(found) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if found else None


def _available() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def _below_limit() -> int | None:
    try:
        limit, used, parts = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current", "stat"))
    except OSError:
        return None
    files = re.search(r"^inactive_file (\d+)", parts, re.MULTILINE)  # read once, and let go where memory is short
    return max(0, int(limit) - int(used) + int(files[1] if files else 0)) if limit.isdigit() else None
