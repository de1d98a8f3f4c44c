"""The table of engines.

Left out: vLLM and servers, which are engines of their own. Floor 4.
"""

from collections.abc import Callable, Mapping

from fairplay.generation.contract import Engine
from fairplay.generation.settings import GenerationSettings
from fairplay.lookup import lookup
from fairplay.models.settings import ModelSettings


def _transformers(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    from fairplay.generation.transformers_engine import TransformersEngine
    from fairplay.models.loading import load_policy

    return TransformersEngine(load_policy(model, model_settings), settings)


ENGINES: Mapping[str, Callable[[GenerationSettings, str, ModelSettings], Engine]] = {
    "transformers": _transformers,
}


def build_engine(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> Engine:
    """The engine that the settings name, with its model loaded.

    Args:
        settings: Engine and sampling.
        model: Folder in Hugging Face format, or hub id.
        model_settings: How to load it.

    Raises:
        SettingsError: If there is no engine of that name.
        DataError: If the model can't be loaded.
    """
    return lookup(ENGINES, settings.engine, "engine")(settings, model, model_settings)
