"""TRL in a process of its own, for a version whose packages fairplay does not share: asked by `train_vs_trl.py`.

    python benchmarks/train_vs_trl.py --peer-python PYTHON

Needs torch, trl, transformers and safetensors, not fairplay.
"""

import os
import warnings
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import is_liger_kernel_available, logging

from peer import serve
from trl_engine import Pair, TrlEngine
from trl_modes import Mode

engines: dict[str, TrlEngine] = {}


def about() -> dict[str, Any]:
    """The versions here, and whether there is liger-kernel."""
    return {name: version(name) for name in ("trl", "torch", "transformers")} | {"liger": is_liger_kernel_available()}


def build(name: str, mode: dict[str, Any], folder: str, pairs: list[Pair], *, bf16: bool) -> None:
    """Make an engine on the weights of a folder."""
    engines[name] = TrlEngine(Mode(**mode), pairs, partial(_model, folder), bf16=bf16)


def _model(folder: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    serve(engines, about=about, build=build)
