import json
from collections import Counter

import pytest

from fairplay.errors import DataError, SettingsError
from fairplay.generation.contract import Generated
from fairplay.generation.mixture import MIXTURE_NAME, Member, Mixture, read_mixture, write_mixture
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Dropped, Message, Prompt, Response, ResponseGroup
from models.tiny import make_model, make_tokenizer

PROMPTS = [Prompt(f"p{number}", (Message("user", f"red {number}"),)) for number in range(40)]
SEEDS = [[100 * number + sample for sample in range(5)] for number in range(40)]


class Named:
    """An engine that answers with its name and the seed, and leaves out a prompt that it is told to."""

    def __init__(self, name, leaves_out=""):
        self.name, self.leaves_out = name, leaves_out

    def respond(self, prompts, seeds):
        kept = [pair for pair in zip(prompts, seeds, strict=True) if pair[0].id != self.leaves_out]
        groups = tuple(
            ResponseGroup(prompt, tuple(Response(f"{self.name} {seed}") for seed in row), (1,)) for prompt, row in kept
        )
        left = tuple(Dropped(prompt.id, "too long") for prompt in prompts if prompt.id == self.leaves_out)
        return Generated(groups, left)

    def close(self):
        pass


def members(**weights):
    return [Member(name, weight, "") for name, weight in weights.items()]


def test_every_response_is_one_members_own_in_the_order_of_the_seeds():
    found = Mixture(members(a=0.3, b=0.7), Named).respond(PROMPTS, SEEDS)
    assert [group.prompt for group in found.groups] == PROMPTS
    told = [response.text.split() for group in found.groups for response in group.responses]
    assert [int(seed) for _, seed in told] == [seed for row in SEEDS for seed in row]
    assert Counter(name for name, _ in told)["a"] == pytest.approx(60, abs=21)  # 200 draws, 3 standard deviations


def test_who_responds_depends_on_prompt_and_seed_alone():
    mixture = Mixture(members(a=0.5, b=0.5), Named)
    together = mixture.respond(PROMPTS, SEEDS)
    (alone,) = mixture.respond(PROMPTS[7:8], [SEEDS[7][2:4]]).groups
    assert alone.responses == together.groups[7].responses[2:4]


def test_a_prompt_that_a_member_leaves_out_is_left_out_and_counted():
    found = Mixture(members(a=0.5, b=0.5), lambda name: Named(name, "p3" if name == "b" else "")).respond(
        PROMPTS, SEEDS
    )
    assert [item.id for item in found.dropped] == ["p3"]
    assert len(found.groups) == len(PROMPTS) - 1


def test_a_folder_with_a_mixture_responds_as_its_members_do(tmp_path):
    names = []
    for number in range(2):
        folder = tmp_path / f"policy-{number}"
        model = make_model("llama")
        for parameter in model.parameters():
            parameter.data.mul_(1.0 + number)
        save_policy(Policy(model, make_tokenizer("starter"), "memory"), folder)
        names.append(str(folder))
    write_mixture([*names, names[0]], [0.5, 0.5, 0.0], tmp_path / "mixture")
    sampling, loading = GenerationSettings(max_new_tokens=6, batch_size=8), ModelSettings(device="cpu")
    found = build_engine(sampling, str(tmp_path / "mixture"), loading).respond(PROMPTS[:4], SEEDS[:4])
    own = [build_engine(sampling, name, loading).respond(PROMPTS[:4], SEEDS[:4]).groups for name in names]
    picks = set()
    for number, group in enumerate(found.groups):
        for sample, response in enumerate(group.responses):
            makers = [k for k in range(2) if own[k][number].responses[sample] == response]
            assert makers
            picks.update(makers)
    assert picks == {0, 1}


def test_a_member_that_changed_and_a_damaged_file_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    write_mixture([str(tmp_path / "a"), str(tmp_path / "b")], [0.5, 0.5], tmp_path / "m")
    assert [member.weight for member in read_mixture(str(tmp_path / "m"))] == [0.5, 0.5]
    (tmp_path / "b" / "config.json").write_text("c")
    with pytest.raises(DataError, match="has changed since"):
        read_mixture(str(tmp_path / "m"))
    (tmp_path / "m" / MIXTURE_NAME).write_text(json.dumps({"schema_version": 9}))
    with pytest.raises(DataError, match="schema 9"):
        read_mixture(str(tmp_path / "m"))
    with pytest.raises(SettingsError, match="add up to 1"):
        write_mixture(["a", "b"], [0.5, 0.6], tmp_path / "n")
    with pytest.raises(SettingsError, match="1 weight for 2 models"):
        write_mixture(["a", "b"], [1.0], tmp_path / "n")
