"""Model folders inside another folder: what a user meant who named a run where a model belongs.

Left out: reading a model. Floor 2.
"""

import re
from pathlib import Path

MODEL_FILES = ("config.json", "adapter_config.json")
_DEPTH = 3
_SHOWN = 3


def inner_models(folder: Path) -> list[Path]:
    """Folders below this one that hold a model, those of later iterations first; hidden ones and references are not."""
    found = {
        file.parent
        for depth in range(1, _DEPTH + 1)
        for name in MODEL_FILES
        for file in folder.glob("/".join(["*"] * depth + [name]))
    }
    kept = [one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts)]
    return sorted(kept, key=lambda one: (-_iteration(one), str(one)))


def not_a_model_hint(folder: Path) -> str:
    """How to mend the name of a folder that is no model folder itself."""
    inside = inner_models(folder)
    if not inside:
        return "name a folder in Hugging Face format"
    more = f", and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
    return f"models are inside it: {', '.join(map(str, inside[:_SHOWN]))}{more}"


def _iteration(folder: Path) -> int:
    numbers = [int(number) for number in re.findall(r"iteration-(\d+)", str(folder))]
    return numbers[-1] if numbers else 0
