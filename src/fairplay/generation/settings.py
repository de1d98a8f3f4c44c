"""Settings of generation: which engine responds, how it samples, how much it takes at a time.

Left out: the model and its device (`models.settings`), seeds (given with the prompts). Imports no torch. Floor 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fairplay.errors import SettingsError
from fairplay.servers.hosting import words_of
from fairplay.servers.settings import ServerSettings
from fairplay.storage.settings_file import settings_document

POLICY = "{policy}"
"""In the name of a server's model: the policy's own name or folder."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What the engine `vllm` takes of a machine with GPUs; a CPU's cache is sized for `batch_size` rows.

    Attributes:
        tensor_parallel_size: GPUs that share one copy of the weights.
        gpu_memory_utilization: Share of a GPU's memory for weights and cache together, above 0 and at most 1.
    """

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "data_parallel_size": "engines side by side are workers: set cluster.address=local and cluster.num_workers"
    }
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9

    def __post_init__(self) -> None:
        if self.tensor_parallel_size < 1:
            raise SettingsError(f"tensor_parallel_size must be at least 1, not {self.tensor_parallel_size}")
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise SettingsError(
                f"gpu_memory_utilization must be above 0 and at most 1, not {self.gpu_memory_utilization}"
            )


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """A server that the engine `openai` starts itself on the weights that are to respond, and stops afterwards.

    Attributes:
        command: What starts it, without a shell; `{model}` stands for the policy's folder, `{port}` for a free port of
            this machine. Empty: the server of `server.base_url` is there already.
        start_timeout: Seconds until it must be ready.
        token_ids: Whether it tells token ids and log-probs of what it samples when asked as vLLM is
            (`return_token_ids`); without them only its greedy texts are compared with our own model's.
    """

    command: str = ""
    start_timeout: float = 900.0
    token_ids: bool = True

    def __post_init__(self) -> None:
        if self.command:
            words_of(self.command, model="", port=0)
        if not 0.0 < self.start_timeout < float("inf"):
            raise SettingsError(f"serve.start_timeout: {self.start_timeout} is not a positive number of seconds")


def _local_server() -> ServerSettings:
    return ServerSettings(model=POLICY, base_url="http://127.0.0.1:8000/v1", api_key_env="")


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How responses are sampled. Nothing else shapes a distribution: neither top-k nor a checkpoint's own settings do.

    Attributes:
        engine: Name of the engine, see `table.ENGINES`.
        num_responses: Responses to each prompt (K).
        temperature: Logits are divided by it; 0 takes the likeliest token every time.
        top_p: Only the likeliest tokens that together reach this probability are drawn from; 1 draws from all.
        max_new_tokens: Tokens at which a response is cut; its finish reason is then `length`.
        max_prompt_length: Longer prompts, in tokens, are dropped and counted.
        batch_size: Rows (samples) that are computed together; it changes the speed, and samples only by float rounding.
        vllm: What the engine `vllm` needs besides.
        server: Whom the engine `openai` asks; name `model` and `base_url`. In `model`, `{policy}` stands for the
            policy's folder or name. By default a server on this machine that knows the policy by it.
        serve: A server that the engine `openai` starts for the time that it responds; `server.base_url` is then its.
    """

    engine: str = "transformers"
    num_responses: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    max_prompt_length: int = 1024
    batch_size: int = 64
    vllm: VllmSettings = field(default_factory=VllmSettings)
    server: ServerSettings = field(default_factory=_local_server)
    serve: ServeSettings = field(default_factory=ServeSettings)

    def __post_init__(self) -> None:
        for name in ("num_responses", "max_new_tokens", "max_prompt_length", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 <= self.temperature < float("inf"):
            raise SettingsError(f"temperature must be 0 or above, not {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise SettingsError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.serve.command and self.engine != "openai":
            raise SettingsError(f"serve.command: the engine {self.engine} asks no server", hint="set engine: openai")

    @property
    def serves_policy(self) -> bool:
        """Whether the server is to answer with the policy's own weights, and not with those of a name of its own."""
        return bool(self.serve.command) or POLICY in self.server.model


_OWN: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {"vllm": ("tensor_parallel_size",)},
    "openai": {"server": ("model", "extra_body", "identity"), "serve": ("token_ids",)},
}
"""Engine -> its own settings, and which of them can move a sample; the rest are places, patience, and the machine's."""


def decisive_settings(settings: GenerationSettings) -> dict[str, Any]:
    """What decides the responses, as plain data: everything but other engines' settings, places and patience."""
    document = settings_document(settings)
    own = {name: document.pop(name) for names in _OWN.values() for name in names}
    for name, keys in _OWN.get(settings.engine, {}).items():
        document[name] = {key: own[name][key] for key in keys}
    return document
