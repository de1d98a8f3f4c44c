"""Free memory is what the machine has, less what a container may not take, shared by its processes."""

import torch

from fairplay.models import free_memory
from fairplay.models.free_memory import free_bytes


def test_the_processes_of_a_machine_share_its_memory_and_a_container_has_its_limit(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable:      1000 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert free_bytes(cpu) == 1024000
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 500\nactive_file 100\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes(cpu) == 2500
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_bytes(cpu) == 1250
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(cpu) == 512000
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "absent")
    assert free_bytes(cpu) is None
    assert free_bytes(torch.device("meta")) is None
