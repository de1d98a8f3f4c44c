"""Generation as work that is done shard by shard: an engine in the process that does it, and the samples' seeds.

Left out: the engines, where shards are done and committed (`storage/shards.py`). Floor 4; imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fairplay.generation.contract import Engine
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.settings import ModelSettings
from fairplay.records import Dropped, Prompt, ResponseGroup
from fairplay.seeds import sample_seeds
from fairplay.storage.shards import Facts


@dataclass(frozen=True)
class ResponseWork:
    """K responses to every prompt.

    Attributes:
        model: The policy: a folder or a hub id.
        generation: How it responds; K is its `num_responses`.
        loading: How it is loaded.
        seed_parts: What the samples are for; with the prompt's id it decides their seeds, see `sample_seeds`.
    """

    model: str
    generation: GenerationSettings
    loading: ModelSettings
    seed_parts: tuple[str | int, ...]

    @property
    def asks_server(self) -> bool:
        return self.generation.engine == "openai"

    @property
    def num_gpus(self) -> int:
        if self.asks_server or self.loading.device == "cpu":
            return 0
        return self.generation.vllm.tensor_parallel_size if self.generation.engine == "vllm" else 1

    def start(self) -> "Responder":
        """Load the model; see `build_engine` for what it raises."""
        return Responder(build_engine(self.generation, self.model, self.loading), self)


class Responder:
    """A worker with an engine; it closes the engine with itself."""

    def __init__(self, engine: Engine, work: ResponseWork) -> None:
        self.engine, self.work = engine, work
        self.facts: Facts = {}

    def do(self, items: Sequence[Prompt]) -> tuple[Sequence[ResponseGroup], Sequence[Dropped]]:
        """Respond to the prompts of a shard; sample k of a prompt has a seed of its own, whatever the shard."""
        number, parts = self.work.generation.num_responses, self.work.seed_parts
        seeds = [sample_seeds(number, *parts, prompt.id) for prompt in items]
        generated = self.engine.respond(items, seeds)
        return generated.groups, generated.dropped

    def close(self) -> None:
        self.engine.close()
