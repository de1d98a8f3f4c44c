"""The table of engines.

Left out: the engines (one module each, imported when one is built). Floor 4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from fairplay.errors import ResourceError
from fairplay.generation.contract import Engine
from fairplay.generation.mixture import Mixture, is_mixture, read_mixture
from fairplay.generation.settings import GenerationSettings
from fairplay.lookup import lookup
from fairplay.models.settings import ModelSettings
from fairplay.servers.hosting import check_program


def _transformers(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    from fairplay.generation.room import check_weights
    from fairplay.generation.transformers_engine import TransformersEngine
    from fairplay.models.loading import load_policy

    check_weights(model, model_settings)
    return TransformersEngine(load_policy(model, model_settings), settings)


def _vllm(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    from fairplay.generation.vllm_engine import start_vllm

    return start_vllm(settings, model, model_settings)


def _openai(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    from fairplay.generation.openai_engine import start_openai

    return start_openai(settings, model, model_settings)


@dataclass(frozen=True, slots=True)
class Row:
    """One engine.

    Attributes:
        build: From sampling, model and how to load it, to the engine ready to respond.
        package: What must be installed besides the core, an extra of the same name; empty if nothing.
    """

    build: Callable[[GenerationSettings, str, ModelSettings], Engine]
    package: str = ""


ENGINES: Mapping[str, Row] = {
    "transformers": Row(_transformers),
    "vllm": Row(_vllm, package="vllm"),
    "openai": Row(_openai),
}


def check_engine(settings: GenerationSettings) -> None:
    """Refuse, before a run starts, an engine that is not known or not installed.

    Raises:
        SettingsError: If there is no engine of that name, or no program that starts its server.
        ResourceError: If its package is not installed.
    """
    if settings.serve.command:
        check_program(settings.serve.command)
    package = lookup(ENGINES, settings.engine, "engine").package
    if package and find_spec(package) is None:
        raise ResourceError(
            f"generation.engine: {settings.engine} needs the package {package}",
            hint=f"pip install 'fairplay[{package}]'",
        )


def build_engine(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    """The engine that the settings name, with its model loaded.

    Args:
        settings: Engine and sampling.
        model: Folder in Hugging Face format, hub id, or the folder of a mixture.
        model_settings: How to load it.

    Raises:
        SettingsError: If there is no engine of that name.
        ResourceError: If its package is not installed, or memory does not suffice.
        DataError: If the model can't be loaded.
    """
    check_engine(settings)
    build = ENGINES[settings.engine].build
    if is_mixture(model):
        return Mixture(read_mixture(model), lambda member: build(settings, member, model_settings))
    return build(settings, model, model_settings)
