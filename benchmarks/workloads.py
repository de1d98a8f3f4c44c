"""Made-up groups and models for benchmarks: lengths as real preference data has them, shapes as real models do.

Lengths are log-normal, clipped. Token ids are drawn at random: neither speed nor equality depends on what they say.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from fairplay.models.encoding import EncodedExample
from fairplay.records import Prompt, TrainingExample


@dataclass(frozen=True)
class Lengths:
    """Tokens of a text: log-normal around the median, clipped."""

    median: float
    sigma: float
    least: int
    most: int

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return int(min(self.most, max(self.least, rng.lognormvariate(math.log(self.median), self.sigma))))


@dataclass(frozen=True)
class DataSet:
    """Lengths of prompts and responses, responses a prompt; the first response is chosen over each other one."""

    prompt: Lengths
    response: Lengths
    num_responses: int
    num_groups: int  # of an optimiser step


MEDIUM, RESPONSE = Lengths(120, 0.8, 50, 400), Lengths(180, 0.8, 50, 400)
SETS = {
    "uf": DataSet(MEDIUM, RESPONSE, 2, 4),  # UltraFeedback
    "longprompt": DataSet(Lengths(300, 0.4, 150, 400), Lengths(30, 0.6, 10, 80), 2, 4),  # TL;DR, many turns
    "k5": DataSet(MEDIUM, RESPONSE, 5, 1),  # on-policy, five responses a prompt
}

LLAMA = {"hidden_size": 320, "num_hidden_layers": 10, "intermediate_size": 896, "num_attention_heads": 8,
         "num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 4096}  # fmt: skip
MODELS = {"32k": LLAMA | {"vocab_size": 32_000}, "4k": LLAMA | {"vocab_size": 4_096}}
"""Words -> shape: 21.9 M parameters of which the head is a large part, 13.0 M of which it is as small as an 8B's."""


def make_examples(name: str, words: int, *, seed: int = 1) -> tuple[EncodedExample, ...]:
    """The groups of one optimiser step."""
    return draw_examples(name, words, groups=SETS[name].num_groups, seed=seed)


def draw_examples(
    name: str, words: int, *, groups: int, scale: float = 1.0, seed: int = 1
) -> tuple[EncodedExample, ...]:
    """Groups with the lengths of a set, times a scale; win rates fall from the first response to the last."""
    data, rng = SETS[name], random.Random(seed)
    made = []
    for number in range(groups):
        lengths = [data.prompt.draw(rng), *(data.response.draw(rng) for _ in range(data.num_responses))]
        lengths = [max(1, int(scale * length)) for length in lengths]
        prompt, *responses = (tuple(rng.randrange(5, words) for _ in range(length)) for length in lengths)
        pairs = tuple((0, other) for other in range(1, data.num_responses))
        rates = tuple(1 - (place + 0.5) / data.num_responses for place in range(data.num_responses))
        example = TrainingExample(str(number), Prompt(str(number), ()), (), pairs, win_rates=rates)
        made.append(EncodedExample(example, prompt, tuple(responses)))
    return tuple(made)


def token_pairs(examples: Sequence[EncodedExample]) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Prompt, chosen and rejected response of every pair, as token ids: what a trainer of pairs reads."""
    return [(e.prompt_ids, e.response_ids[a], e.response_ids[b]) for e in examples for a, b in e.example.pairs]


def make_model(name: str) -> PreTrainedModel:
    """A model with random weights, the same ones every time."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**MODELS[name], bos_token_id=1, eos_token_id=2, pad_token_id=0)).train()
