"""A world small enough that a whole run takes seconds: made once for all tests of the loop."""

import pytest

from fairplay.pipeline.demo import make_starter
from fairplay.pipeline.settings import run_settings
from fairplay.starter.settings import StarterPolicySettings, StarterSettings

TINY = StarterSettings(
    policy=StarterPolicySettings(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_steps=60),
    num_prompts=30,
    num_held_out_prompts=12,
    num_annotated_prompts=12,
    num_sampled_responses=3,
    num_pairs_per_prompt=4,
    oracle_steps=10,
)
SMALL_RUN = [
    "num_iterations=2",
    "prompts.num_per_iteration=8",
    "generation.num_responses=3",
    "generation.max_new_tokens=12",
    "shard_size=3",
    "training.per_device_train_batch_size=2",
    "training.num_train_epochs=1",
    "training.save_steps=2",
    "evaluation.num_prompts=10",
    "evaluation.num_samples=1",
    "evaluation.num_bootstrap=200",
]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The folder of a tiny embedded world, with a recipe."""
    folder = tmp_path_factory.mktemp("world") / "starter"
    make_starter(folder, TINY, seed=0, should_stop=lambda: False)
    return folder


@pytest.fixture
def settings_of(world):
    """Run settings on the tiny world, with overrides."""
    from fairplay.storage.settings_file import read_yaml

    def build(*overrides):
        return run_settings(read_yaml(world / "recipe.yaml"), [*SMALL_RUN, *overrides], source="recipe", name="tiny")

    return build
