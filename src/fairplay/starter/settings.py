"""How large the embedded world's models are, how long they learn, and how many prompts there are.

Left out: the defaults of what isn't the starter's own (`training/settings.py`). Floor 6; imports no torch.
The sizes are measured choices for one core and two minutes: smaller batches and fewer layers learn more per second
than larger ones, and a model ten times as large would not learn the world in that time at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairplay.errors import SettingsError

JUDGE_FUNCTION = "fairplay.starter.judge:score"
"""The exact judge as a `rule` oracle."""


@dataclass(frozen=True, slots=True)
class StarterPolicySettings:
    """A tiny Llama, its tokenizer, and its supervised training.

    Attributes:
        hidden_size, num_hidden_layers, num_attention_heads: As in transformers' LlamaConfig; embeddings are tied.
        vocab_size: Largest vocabulary; fewer tokens where the texts have fewer different words.
        max_length: Longest row in tokens that is trained on; the model has room for twice as many.
        max_steps: Optimiser steps.
        batch_size: Examples a step.
        learning_rate: Peak of a linear schedule that ends at 0.
        prompt_loss_weight: Weight of prompt tokens in the loss: for a model with nothing learnt before it, reading
            prompts is pretraining (greedy accuracy 0.78 with a tenth, 0.69 with full weight).
    """

    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    vocab_size: int = 1024
    max_length: int = 128
    max_steps: int = 1500
    batch_size: int = 16
    learning_rate: float = 3e-3
    prompt_loss_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise SettingsError(
                f"hidden_size {self.hidden_size} is no even multiple of {self.num_attention_heads} heads"
            )
        if self.vocab_size < 261:
            raise SettingsError(f"vocab_size {self.vocab_size} is less than 261: 256 bytes and 5 control tokens")


@dataclass(frozen=True, slots=True)
class StarterSettings:
    """The whole embedded world.

    Attributes:
        policy: The start policy and its training.
        num_prompts: Training prompts for the self-play loop. Past 1,500 the facts run out of different texts, and
            sorting takes their place.
        num_held_out_prompts: Prompts for evaluation; their texts occur nowhere else, not even in the corpus.
        num_annotated_prompts: Prompts whose responses the simulated annotators compare.
        num_sampled_responses: Responses of the start policy to each of these.
        num_corpus_responses: Responses in the corpus's manner to each of these, beside the policy's own.
        num_pairs_per_prompt: Most comparisons of each of these.
        length_love: What one more word is worth to the annotators, in points of the judge's score; 0 is fair.
        oracle_steps: Optimiser steps of the learned oracle, 16 pairs each.
    """

    policy: StarterPolicySettings = field(default_factory=StarterPolicySettings)
    num_prompts: int = 1400
    num_held_out_prompts: int = 300
    num_annotated_prompts: int = 800
    num_sampled_responses: int = 5
    num_corpus_responses: int = 3
    num_pairs_per_prompt: int = 10
    length_love: float = 0.0
    oracle_steps: int = 700

    def __post_init__(self) -> None:
        at_least = {**dict.fromkeys(_COUNTS, 1), "num_corpus_responses": 0}
        faults = [
            f"starter: {name}: must be at least {least}, is {getattr(self, name)}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        if self.num_sampled_responses + self.num_corpus_responses < 2:
            faults.append("starter: num_sampled_responses, num_corpus_responses: 2 responses or more make a pair")
        if faults:
            raise SettingsError("\n".join(faults))


_COUNTS = (
    "num_prompts",
    "num_held_out_prompts",
    "num_annotated_prompts",
    "num_sampled_responses",
    "num_pairs_per_prompt",
    "oracle_steps",
)

PRESETS: Mapping[str, StarterSettings] = {
    "full": StarterSettings(),
    "short": StarterSettings(policy=StarterPolicySettings(max_steps=900), num_annotated_prompts=400, oracle_steps=300),
}
"""`full` learns the world in about 85 s on one core, `short` in half of that, with a weaker policy and oracle."""

REAL_TEXT = StarterPolicySettings(vocab_size=2048, max_length=512, max_steps=400, batch_size=8)
"""To fit the tiny policy to dialogues of some hundred tokens (HH-RLHF) in about a minute on one core."""


@dataclass(frozen=True)
class ScratchSettings:
    """A model without any learnt weights, and a tokenizer trained on the texts that it will read.

    Attributes:
        model_type: Architecture by transformers' name, such as `bert`, `llama` or `deberta-v2`; empty: no such model.
        vocab_size: Largest vocabulary of the tokenizer, and so of the model.
        config: What else that architecture's config takes, such as `hidden_size`; the rest has transformers' defaults.
    """

    model_type: str = ""
    vocab_size: int = 2048
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what the tokenizer decides, and a vocabulary without room for all bytes.

        Raises:
            ValueError: With every fault; the door turns it into a `SettingsError`.
        """
        taken = sorted(_OF_TOKENIZER & set(self.config))
        faults = [f"config.{name}: the tokenizer decides it" for name in taken]
        if self.vocab_size < 270:
            faults.append(f"vocab_size: must be at least 270 (256 bytes and control tokens), is {self.vocab_size}")
        if faults:
            raise ValueError("; ".join(faults))


_OF_TOKENIZER = frozenset({"model_type", "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "num_labels"})
