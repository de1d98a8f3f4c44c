"""Too little memory for sampling is said before it begins."""

import shutil
from pathlib import Path

import pytest

from fairplay.errors import ResourceError
from fairplay.generation import room
from fairplay.generation.room import check_rows, token_bytes
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models import free_memory
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Message, Prompt
from models.tiny import make_model, make_tokenizer

SETTINGS = GenerationSettings(batch_size=8, num_responses=4, max_new_tokens=10)
PROMPTS = [Prompt("p", (Message("user", "red cat"),))]


@pytest.fixture
def policy(tmp_path):
    tokenizer = make_tokenizer("starter")
    save_policy(Policy(make_model("llama", vocab_size=len(tokenizer)), tokenizer, "memory"), tmp_path / "policy")
    return str(tmp_path / "policy")


@pytest.fixture
def has(monkeypatch, tmp_path):
    """A machine with so many free kB."""
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "CGROUP", tmp_path)
    return lambda number: (tmp_path / "meminfo").write_text(f"MemAvailable:      {number} kB\n")


def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(policy, has):
    has(50)
    with pytest.raises(
        ResourceError, match=r"policy: its weights take .* GiB, and 4.77e-05 are free on cpu"
    ) as refusal:
        build_engine(SETTINGS, policy, ModelSettings())
    assert "bfloat16" in refusal.value.hint


def test_a_type_of_half_the_size_needs_half_the_memory(policy, has):
    parameters = sum(parameter.numel() for parameter in make_model("llama").parameters())
    stored = room._stored_parameters(Path(policy))
    assert stored == pytest.approx(parameters, rel=0.5)
    has(stored * 3 // 1024)
    build_engine(SETTINGS, policy, ModelSettings(dtype="bfloat16"))
    with pytest.raises(ResourceError, match="its weights take"):
        build_engine(SETTINGS, policy, ModelSettings())


def test_weights_that_lie_there_twice_count_once(policy):
    folder = Path(policy)
    stored = room._stored_parameters(folder)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert room._stored_parameters(folder) == stored > 0


def test_prompts_that_can_not_be_kept_end_the_stage_before_a_token_is_sampled(policy, has):
    engine = build_engine(SETTINGS, policy, ModelSettings())
    has(1)
    with pytest.raises(ResourceError, match="memory: 4 prompts of") as refusal:
        engine.respond(PROMPTS, [[1, 2, 3, 4]])
    assert refusal.value.hint == "lower generation.batch_size"


def test_responses_that_may_not_fit_are_warned_of(caplog):
    model = make_model("llama")
    each = token_bytes(model.config, 4)
    assert each == 2 * 2 * 1 * 16 * 4  # keys and values, layers, heads, width, bytes
    check_rows(model, [5, 7], SETTINGS, 8 * each * 17)
    assert caplog.text == ""
    check_rows(model, [5, 7], SETTINGS, 8 * each * 17 - 1)
    assert "8 rows take up to" in caplog.text
    check_rows(model, [5, 7], SETTINGS, None)
    with pytest.raises(ResourceError, match="8 prompts of 7 tokens"):
        check_rows(model, [5, 7], SETTINGS, 8 * each * 7 - 1)


def test_a_window_bounds_what_is_certain():
    model = make_model("mistral")  # keeps 8 tokens
    each = token_bytes(model.config, 4)
    check_rows(model, [100], SETTINGS, 4 * each * 8)
    with pytest.raises(ResourceError, match="4 prompts of 100 tokens"):
        check_rows(model, [100], SETTINGS, 4 * each * 8 - 1)
