"""Under torchrun several processes learn as one does, step for step, however weights are spread over them."""

import pytest

from fairplay.models.settings import ModelSettings
from training.test_loop import records
from training.test_ranks import assert_near
from training.tiny import CPU, EXACT, run, save_tiny_policy
from training.together import torchrun

pytestmark = pytest.mark.slow
NUM_STEPS = 20
OPTIONS = {"max_steps": NUM_STEPS, "per_device_train_batch_size": 2, "count": 24}
OBJECTIVES = {
    "dpo": {},
    "sppo": {"num_responses": 3, "parameters": {"eta": 5.0}},
    "inpo": {"parameters": {"eta": 5.0}},  # held to an anchor model
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


def test_loss_curves_of_two_processes_are_those_of_one(start, tmp_path):
    options = {name: {**OPTIONS, "objective": name, **more} for name, more in OBJECTIVES.items()}
    options["inpo"]["anchor"] = save_tiny_policy(tmp_path / "anchor", family="qwen2")
    qlora = {**OPTIONS, "use_peft": True, "learning_rate": 1e-2}
    tasks = [
        [
            "train",
            {"folder": str(tmp_path / name), "start": start, "exact": False, **own, "gradient_accumulation_steps": 2},
        ]
        for name, own in options.items()
    ]
    tasks.append(["train", {"folder": str(tmp_path / "qlora"), "start": start, "exact": False, "nf4": True, **qlora}])
    torchrun(2, tasks)
    for name, own in options.items():
        run(tmp_path / f"{name} alone", start, **own, gradient_accumulation_steps=4, model_settings=CPU)
    nf4 = ModelSettings(device="cpu", load_in_4bit=True)
    run(tmp_path / "qlora alone", start, **qlora, gradient_accumulation_steps=2, model_settings=nf4)
    for name in (*options, "qlora"):
        alone, found = ([r["loss"] for r in records(tmp_path / place)] for place in (f"{name} alone", name))
        assert len(found) == NUM_STEPS
        assert found == pytest.approx(alone, abs=1e-5, rel=0)
        assert max(alone) - min(alone) > 0.01


def test_two_copies_of_the_weights_on_four_processes_are_taken_over_by_one(start, tmp_path):
    options = {**OPTIONS, "objective": "dpo", "save_steps": 4, "max_steps": 8, "dp_replicate_size": 2}
    whole = {"folder": str(tmp_path / "whole"), "start": start, **options}
    stopped = {"folder": str(tmp_path / "stopped"), "start": start, **options, "ending": ["stop", 9]}
    torchrun(4, [["train", whole], ["train", stopped]])
    [saved] = (tmp_path / "stopped" / "work" / "checkpoints").glob("step-[5-7]")
    sizes = [(saved / f"weights-{rank}.safetensors").stat().st_size for rank in range(4)]
    assert min(sizes[:2]) > 5 * max(sizes[2:])  # the second copy writes nothing
    run(tmp_path / "stopped", start, **options, model_settings=EXACT)
    run(tmp_path / "alone", start, **options, gradient_accumulation_steps=4, model_settings=EXACT)
    for name in ("whole", "stopped"):
        assert_near(tmp_path / name / "policy", tmp_path / "alone" / "policy")
