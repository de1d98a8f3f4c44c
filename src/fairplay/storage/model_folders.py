"""Model folders inside another folder: what a user meant who named a run where a model belongs.

Left out: reading a model. Floor 2.
"""

import json
import re
from pathlib import Path

MODEL_FILES = ("config.json", "adapter_config.json")
_ORACLE_FILES = ("oracle.json", "pair_model.json")  # what is kept beside an oracle's weights
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CHECKPOINT = "5-checkpoint"
_DEPTH = 3
_SHOWN = 3


def inner_models(folder: Path, *, policies: bool = False) -> list[Path]:
    """Folders below this one that hold a model, those of later iterations first; those below hidden folders are not.

    Args:
        folder: Where to look, three levels deep.
        policies: Take only those that a policy can be, and what a run has trained before all others.
    """
    found = {
        file.parent
        for depth in range(1, _DEPTH + 1)
        for name in MODEL_FILES
        for file in folder.glob("/".join(["*"] * depth + [name]))
    }
    kept = [one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts)]
    if not policies:
        return sorted(kept, key=lambda one: (-_iteration(one), str(one)))
    kept = [one for one in kept if _can_be_policy(one)]
    return sorted(kept, key=lambda one: (_CHECKPOINT not in one.parts, -_iteration(one), str(one)))


def not_a_model_hint(folder: Path, *, policy: bool = False) -> str:
    """How to mend the name of a folder that is no model folder itself.

    Args:
        folder: The folder.
        policy: Whether a policy is wanted, rather than an oracle or any model.
    """
    inside = inner_models(folder, policies=policy)
    if not inside:
        return "name a folder in Hugging Face format"
    more = f", and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
    return f"models are inside it: {', '.join(map(str, inside[:_SHOWN]))}{more}"


def _can_be_policy(folder: Path) -> bool:
    """Whether nothing says that it is an oracle, or a model of another kind than one that writes."""
    if any((folder / name).is_file() for name in _ORACLE_FILES):
        return False
    try:
        architectures = json.loads((folder / MODEL_FILES[0]).read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):  # an adapter has no such file
        return True
    return not architectures or any(str(one).endswith(_LANGUAGE_MODELS) for one in architectures)


def _iteration(folder: Path) -> int:
    numbers = [int(number) for number in re.findall(r"iteration-(\d+)", str(folder))]
    return numbers[-1] if numbers else 0
