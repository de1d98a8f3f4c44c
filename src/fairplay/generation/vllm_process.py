"""What vLLM does to the process it runs in, held at bay: environment, logging, global state, and what it raises.

Left out: sampling (`vllm_engine.py`). Importing this module does not import vLLM. Floor 4.
"""

import gc
import logging
import os
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fairplay.errors import DataError, FairplayError, ResourceError, SettingsError

logger = logging.getLogger(__name__)

# Read by vLLM when it is imported or starts. Its own logging writes to stdout, where our results go.
_ENVIRONMENT = {"VLLM_CONFIGURE_LOGGING": "0", "VLLM_NO_USAGE_STATS": "1"}
# On a CPU the engine stays in this process (a child of its own takes ten times as long to start) and binds no cores.
_CPU_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_THEIRS = ("vllm", "lm_eval")


def import_vllm() -> None:
    """Import vLLM for the first time, quiet and silent about us.

    Raises:
        ResourceError: If it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
    except ImportError as error:
        raise ResourceError(
            f"the engine vllm needs the package vllm ({error})", hint="pip install 'fairplay[vllm]'"
        ) from error
    logging.getLogger("vllm").setLevel(logging.ERROR)  # its warnings are about what we ask for on purpose
    logger.info("vllm %s", vllm.__version__)


def on_cpu() -> bool:
    """Whether the installed build of vLLM is the one for CPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def check_device(device: str, setting: str = "loading.device") -> None:
    """Refuse a device that this build of vLLM would not use.

    Args:
        device: What is asked for; empty leaves it to vLLM.
        setting: What asks for it.

    Raises:
        SettingsError: If there is such a wish.
    """
    if device not in ("", "cpu" if on_cpu() else "cuda"):
        raise SettingsError(
            f"{setting}: vLLM can't be put on `{device}` from here",
            hint="leave it empty: the build of vLLM decides between GPU and CPU, CUDA_VISIBLE_DEVICES which GPU",
        )


@contextmanager
def refusals(model: str, instead: str = "generation.engine=transformers") -> Iterator[None]:
    """What vLLM raises when it can't run a model, as an error of ours; what comes from elsewhere goes through.

    Args:
        model: What it was to run.
        instead: What to use where it can't.

    Raises:
        ResourceError: If it says that memory does not suffice.
        DataError: If it says anything else.
    """
    try:
        yield
    except FairplayError:
        raise
    except (ValueError, RuntimeError, NotImplementedError) as error:
        if not _is_theirs(error):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error).lower():
            raise ResourceError(
                f"{model}: vLLM has too little memory: {line}",
                hint="lower generation.max_prompt_length, max_new_tokens or batch_size, or use more GPUs",
            ) from error
        raise DataError(f"{model}: vLLM can't run this model here: {line}", hint=f"use {instead}") from error


def _is_theirs(error: Exception) -> bool:
    """Whether an error was raised by vLLM, by what it called, or by the harness around it."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module.partition(".")[0] in _THEIRS for module in modules)


@contextmanager
def process_left_as_it_was() -> Iterator[None]:
    """Undo that vLLM in this process seeds the global generators and takes `torch.set_num_threads` away."""
    if on_cpu():
        for name, value in _CPU_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_num_threads = set_threads
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def free_memory() -> None:
    """Give back what is not used any more, on the accelerator too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
