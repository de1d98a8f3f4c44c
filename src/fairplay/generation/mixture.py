"""A mixture of policies: every response is drawn from one member, chosen at random for that response alone.

The mixture of all iterates of self-play is what the guarantee of no-regret learning is about, not the last one. A
folder with `mixture.json` stands for it wherever a policy responds. Left out: averages of weights
(`models/combining.py`). Floor 4; imports no torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from fairplay.errors import DataError, SettingsError
from fairplay.generation.contract import Engine, Generated
from fairplay.records import Dropped, Prompt, Response, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.storage.atomic import write_atomic
from fairplay.storage.digests import content_digest
from fairplay.wording import plural

MIXTURE_NAME = "mixture.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One policy of a mixture.

    Attributes:
        model: Folder, absolute or relative to the mixture's, or hub id.
        weight: Share of the responses, above 0.
        content: Hash of the model when the mixture was made.
    """

    model: str
    weight: float
    content: str


def write_mixture(models: Sequence[str], weights: Sequence[float], folder: Path) -> None:
    """Write a mixture's folder; the members stay where they are, members of weight 0 are left out.

    Raises:
        SettingsError: If the weights are not one a model, or are negative, or don't add up to 1.
        DataError: If a member is not there.
    """
    if len(weights) != len(models):
        raise SettingsError(f"{plural(len(weights), 'weight')} for {plural(len(models), 'model')}")
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise SettingsError(f"weights {list(weights)}: shares are 0 or more and add up to 1")
    members = [
        {"model": _placed(model), "weight": weight, "content": content_digest(model)}
        for model, weight in zip(models, weights, strict=True)
        if weight > 0
    ]
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema_version": SCHEMA_VERSION, "members": members}
    write_atomic(folder / MIXTURE_NAME, json.dumps(document, indent=1) + "\n")


def is_mixture(source: str) -> bool:
    """Whether a model's name is the folder of a mixture."""
    return (Path(source).expanduser() / MIXTURE_NAME).is_file()


def read_mixture(source: str) -> tuple[Member, ...]:
    """The members of a mixture's folder.

    Raises:
        DataError: If the file is no mixture, or a member has changed since.
    """
    path = Path(source).expanduser() / MIXTURE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise DataError(f"{path}: schema {document['schema_version']}, this release reads {SCHEMA_VERSION}")
        members = tuple(Member(str(m["model"]), float(m["weight"]), str(m["content"])) for m in document["members"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no mixture ({error})", hint="make it with `fairplay combine --mixture`") from error
    for member in members:
        if content_digest(member.model) != member.content:
            raise DataError(f"{path}: {member.model} has changed since", hint="make the mixture anew")
    return members


class Mixture:
    """An engine of several; they are built one after the other, so that one model is in memory at a time.

    Args:
        members: The policies.
        build: From a member's model to its engine.
    """

    def __init__(self, members: Sequence[Member], build: Callable[[str], Engine]) -> None:
        self.members, self.build = tuple(members), build

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Draw a member for every sample by the sample's own seed, and let it respond; see `Engine.respond`."""
        chosen = [[self._draw(prompt.id, seed) for seed in row] for prompt, row in zip(prompts, seeds, strict=True)]
        found: dict[tuple[str, int], Response] = {}
        ids: dict[str, tuple[int, ...]] = {}
        dropped: dict[str, Dropped] = {}
        for number, member in enumerate(self.members):
            asked = [
                (prompt, [seed for seed, drawn in zip(row, picks, strict=True) if drawn == number])
                for prompt, row, picks in zip(prompts, seeds, chosen, strict=True)
            ]
            asked = [(prompt, own) for prompt, own in asked if own]
            if not asked:
                continue
            engine = self.build(member.model)
            generated = engine.respond([prompt for prompt, _ in asked], [own for _, own in asked])
            engine.close()
            of_prompt = {prompt.id: own for prompt, own in asked}
            for group in generated.groups:
                ids[group.prompt.id] = group.prompt_token_ids
                for seed, response in zip(of_prompt[group.prompt.id], group.responses, strict=True):
                    found[group.prompt.id, seed] = response
            dropped |= {item.id: item for item in generated.dropped}
        groups = tuple(
            ResponseGroup(prompt, tuple(found[prompt.id, seed] for seed in row), ids[prompt.id])
            for prompt, row in zip(prompts, seeds, strict=True)
            if prompt.id not in dropped
        )
        return Generated(groups, tuple(dropped[prompt.id] for prompt in prompts if prompt.id in dropped))

    def close(self) -> None:
        """Nothing stays in memory between calls."""

    def _draw(self, prompt_id: str, seed: int) -> int:
        share = stable_seed(seed, "mixture", prompt_id) / 2**63
        reached = 0.0
        for number, member in enumerate(self.members):
            reached += member.weight
            if share < reached:
                return number
        return len(self.members) - 1


def _placed(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model
