"""Two processes train as one does: every objective's gradient, the weights after some steps, resumes, failures.

Runs real processes that talk over gloo and hold sharded weights.
"""

import json
import shutil
import signal

import pytest
import torch

from fairplay.errors import Preempted
from fairplay.models.loading import load_policy
from fairplay.objectives.table import OBJECTIVES
from training.test_resume import result, stop_after
from training.tiny import EXACT, run, save_tiny_policy
from training.together import call

OPTIONS = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "count": 13}
SHARED = {**OPTIONS, "gradient_accumulation_steps": 2}  # on each of two ranks
ALONE = {**OPTIONS, "gradient_accumulation_steps": 4, "model_settings": EXACT}
LONG = {"objective": "bco_pair", "save_steps": 1, "max_steps": 8}
DIVERGING = {"optim": "sgd", "learning_rate": 1e38, "warmup_ratio": 0.0, "max_grad_norm": 0.0, "save_steps": 1}
BEGUN_ALONE = {**OPTIONS, **LONG, "gradient_accumulation_steps": 3}
TRAININGS = {
    "dpo": {},
    "dpo_by_tokens": {"objective": "dpo", "max_tokens_per_micro_batch": 100},
    "dpo_adapters": {"objective": "dpo", "use_peft": True, "gradient_checkpointing": True},
    "dpo_copies": {"objective": "dpo", "dp_replicate_size": 2},
    "tdpo2_adapters": {"objective": "tdpo2", "use_peft": True},
    "dpo_mixed": {
        "objective": "dpo",
        "reference_schedule": "every_steps",
        "reference_sync_steps": 2,
        "reference_mixup_alpha": 0.5,
    },
    "sppo": {"num_responses": 3, "parameters": {"eta": 5.0}},
    "kto": {},
    "bco_pair": {},
    "aot_paired": {},
    "dr_dpo": {},
    "beta_dpo": {},
    "tdpo1": {},
    "inpo": {},
    "sft": {"num_responses": 1, "optim": "rmsprop"},
}


def options_of(name, start):
    models = {"anchor": start} if name == "inpo" else {}
    return {"objective": name, **TRAININGS[name], **models}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


@pytest.fixture(scope="module")
def sessions(start, tmp_path_factory):
    """Where two ranks did everything that the tests below look at, the exit codes, and what was written to stderr."""
    folder = tmp_path_factory.mktemp("together")

    def training(name, **options):
        return ["train", {"folder": str(folder / name), "start": start, **SHARED, **options}]

    def refused(**options):
        return ["refused", {"folder": str(folder), "start": start, **options}]

    with pytest.raises(Preempted):
        run(folder / "over", start, **BEGUN_ALONE, model_settings=EXACT, should_stop=stop_after(4))
    to_compare = [training(name, **options_of(name, start)) for name in TRAININGS]
    done = {
        "compared": [
            *to_compare,
            refused(name="budget", max_tokens_per_micro_batch=9),
            refused(name="optimizer", optim="adafactor"),
            refused(name="few_bits", optim="adamw_torch_8bit", start=str(folder / "nowhere")),
            refused(name="copies", dp_replicate_size=3),
            refused(name="diverged", **DIVERGING),
            ["gradients", {"path": str(folder / "gradients"), "start": start}],
            ["placements", {"path": str(folder / "placements"), "start": start}],
        ],
        "unbroken": [training("unbroken", **LONG, exact=False)],
        "killed": [training("killed", **LONG, exact=False, ending=("kill", 6))],
        "resumed": [training("killed", **LONG, exact=False)],
        "taken": [training("taken", **LONG, ending=("kill", 6))],
        "over": [["train", {"folder": str(folder / "over"), "start": start, **BEGUN_ALONE}]],
        "killed writing": [training("taken writing", **LONG, ending=("kill writing", 8))],
        "halves": [training("halves", **LONG, exact=False, dtype="bfloat16")],
        "halves killed": [training("halves killed", **LONG, exact=False, dtype="bfloat16", ending=("kill", 6))],
        "halves resumed": [training("halves killed", **LONG, exact=False, dtype="bfloat16")],
        "failed": [training("failed", ending=("fail", 5))],
    }
    codes, told = call(2, list(done.values()))
    codes = dict(zip(done, codes, strict=True))
    assert (codes["compared"], codes["unbroken"], codes["resumed"]) == ([0, 0], [0, 0], [0, 0]), told
    return folder, codes, told


@pytest.fixture(scope="module")
def trained(sessions):
    return sessions[0]


def weights(folder):
    return dict(load_policy(str(folder), EXACT).model.named_parameters())


def assert_near(folder, expected):
    found = weights(folder)
    for name, value in weights(expected).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", TRAININGS)
def test_weights_and_records_of_two_ranks_are_those_of_one_process(name, start, trained, tmp_path):
    summary = run(tmp_path, start, **{**ALONE, **options_of(name, start)})
    expected, before = weights(tmp_path / "policy"), weights(start)
    assert max((expected[key] - before[key]).abs().max().item() for key in expected) > 1e-3
    assert_near(trained / name / "policy", tmp_path / "policy")
    _, records = result(tmp_path)
    _, of_ranks = result(trained / name)
    assert len(of_ranks) == summary.steps
    for record, other in zip(records, of_ranks, strict=True):
        missing = {key for key, value in record.items() if value is None}
        assert {key for key, value in other.items() if value is None} == missing
        known = {key: value for key, value in record.items() if key not in missing}
        assert {key: other[key] for key in known} == pytest.approx(known, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_of_a_shared_step_is_the_whole_batchs(name, trained):
    found = json.loads((trained / "gradients").read_text())[name]
    assert found["gradient"] < 1e-12
    assert found["loss"] < 1e-12
    assert found["state"] < 1e-12
    assert found["metrics"] == []
    assert found["tokens"] == 0


def test_an_error_is_told_in_every_rank(trained):
    reasons = {
        "budget": "more than the budget of 9",
        "optimizer": "`adafactor` needs whole weights",
        "few_bits": "`adamw_torch_8bit` needs whole weights",  # before anything is loaded
        "copies": "2 processes can't hold 3 copies evenly",
        "diverged": "step 2: not finite",
    }
    for name, reason in reasons.items():
        told = [(trained / f"{name}-{rank}").read_text() for rank in range(2)]
        assert told[0] == told[1]
        assert reason in told[0]
    assert [path.name for path in (trained / "diverged" / "work" / "checkpoints").iterdir()] == ["step-1"]


def test_ranks_that_are_killed_go_on_with_the_same_bytes(sessions):
    folder, codes, _ = sessions
    assert codes["killed"][0] == -signal.SIGKILL
    assert codes["killed"][1] not in (0, -signal.SIGKILL)
    assert result(folder / "killed") == result(folder / "unbroken")


def test_halved_weights_that_are_killed_go_on_with_the_same_bytes(sessions):
    folder, codes, told = sessions
    assert (codes["halves"], codes["halves resumed"]) == ([0, 0], [0, 0]), told
    assert result(folder / "halves killed") == result(folder / "halves")


@pytest.mark.parametrize("options", [ALONE, {**SHARED, "model_settings": EXACT}], ids=["same product", "same settings"])
@pytest.mark.parametrize("name", ["taken", "taken writing"])
def test_a_single_process_may_take_over_from_ranks_that_were_killed(name, options, sessions, start, tmp_path):
    folder, codes, _ = sessions
    assert codes["taken"][0] == codes["killed writing"][1] == -signal.SIGKILL
    shutil.copytree(folder / name, tmp_path / "taken")
    saved = sorted((tmp_path / "taken" / "work" / "checkpoints").iterdir())
    assert saved
    assert {"weights-0.safetensors", "weights-1.safetensors"} < {path.name for path in saved[-1].iterdir()}
    summary = run(tmp_path / "taken", start, **options, **LONG)
    assert summary.steps == 8
    run(tmp_path / "alone", start, **ALONE, **LONG)
    assert_near(tmp_path / "taken" / "policy", tmp_path / "alone" / "policy")


def test_files_of_a_checkpoint_hold_no_code_and_no_more_than_each_ranks_part(sessions):
    newest = max((sessions[0] / "taken" / "work" / "checkpoints").glob("step-*"))
    assert {path.suffix for path in newest.iterdir()} == {".json", ".safetensors"}
    sizes = [sum(path.stat().st_size for path in newest.glob(f"*-{rank}.safetensors")) for rank in range(2)]
    assert 0.7 < sizes[0] / sizes[1] < 1.5


def test_every_parameter_is_really_sharded(trained):
    for rank in range(2):
        found = json.loads((trained / f"placements-{rank}").read_text())
        assert found["whole"] == found["lora"] == ["DTensor (Shard(dim=0),)"]
        assert found["copies"] == ["DTensor (Replicate(), Shard(dim=0))"]


def test_ranks_may_take_over_from_a_single_process(sessions, start, tmp_path):
    folder, codes, told = sessions
    assert codes["over"] == [0, 0], told
    run(tmp_path, start, **BEGUN_ALONE, model_settings=EXACT)
    assert_near(folder / "over" / "policy", tmp_path / "policy")


def test_no_rank_waits_for_one_that_fails(sessions):
    _, codes, told = sessions
    assert codes["failed"] == [1, 1]
    assert "rank 1: MemoryError: this rank alone" in told
