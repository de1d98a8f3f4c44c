"""ArmoRM: a Llama that scores objectives after the response, and a gate that weighs them after the prompt.

    score = sum over objectives of gate(state where the prompt ends) * (regression_layer(last state) @ transform)

Layout, names and formula as published (Wang et al. 2024, arXiv:2406.12845; `modeling_custom.py` of the hub repository
RLHFlow/ArmoRM-Llama3-8B-v0.1, read and written anew; its code is never run):

    model.*                     the Llama's body
    regression_layer.weight     [objectives, size], no bias
    reward_transform_matrix     [objectives, objectives], a constant; objectives are its rows before, its columns after
    gating.layers.{0..n}.*      linear layers with bias, `gating_n_hidden` of `gating_hidden_dim` with ReLU, and one out
    gating.logit_scale          [1], what the weights add up to

The gate reads the state of the *first* token of the last `TURN_CHANGE` in a row, the <|eot_id|> that ends the prompt's
last turn. Its softmax is of logits / `gating_temperature`; it has no dropout.

Everything but the body stays float32; the original casts it to the body's type, and differs by that rounding. Not
established from a public source: what the published config says; the original's defaults stand for what it leaves out.
Left out: loading (`reward_loading.py`), rows and batches (`reward_model.py`), training. Floor 4.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from fairplay.errors import DataError

ARCHITECTURE = "LlamaForRewardModelWithGating"
TURN_CHANGE = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
"""Ids 128009, 128006, 78191, 128007, 271 in Llama 3's vocabulary, which the original has as constants."""


class ArmoGate(nn.Module):
    """What each objective counts, by the prompt.

    Args:
        size: Of a state.
        num_objectives: Weights that come out.
        hidden_size, num_hidden: Of the layers between.
        temperature: What the logits are divided by.
    """

    def __init__(
        self, size: int, num_objectives: int, *, hidden_size: int, num_hidden: int, temperature: float
    ) -> None:
        super().__init__()
        sizes = [size, *[hidden_size] * num_hidden, num_objectives]
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(num_hidden + 1))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, states: Tensor) -> Tensor:
        """Weights of the objectives, [rows, objectives], of states where prompts end, [rows, size]."""
        *hidden, last = self.layers
        for layer in hidden:
            states = layer(states).relu()
        logits: Tensor = last(states)
        return (logits / self.temperature).softmax(dim=-1) * self.logit_scale


class ArmoRewardModel(LlamaPreTrainedModel):  # type: ignore[no-untyped-call]
    """A sequence classifier with one label, the gated sum.

    Attributes:
        turn_change: Token ids of `TURN_CHANGE`; set by `read_with`, and nothing is scored before.

    Raises:
        DataError: If a size or the temperature in the config can't be.
    """

    _keep_in_fp32_modules_strict = ["regression_layer", "reward_transform_matrix", "gating"]  # noqa: RUF012 (as its base has it)

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        num_objectives = _number(config, "num_objectives", 19)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, num_objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.zeros(num_objectives, num_objectives), requires_grad=False)
        self.gating = ArmoGate(
            config.hidden_size,
            num_objectives,
            hidden_size=_number(config, "gating_hidden_dim", 1024),
            num_hidden=_number(config, "gating_n_hidden", 3),
            temperature=_number(config, "gating_temperature", 10, whole=False),
        )
        self.turn_change: tuple[int, ...] = ()
        self.post_init()  # type: ignore[no-untyped-call]

    def read_with(self, tokenizer: Any) -> None:
        """Learn from its tokenizer what the end of a prompt looks like.

        Raises:
            DataError: If it has no chat template, or not Llama 3's control tokens.
        """
        controls = [part + "|>" for part in TURN_CHANGE.replace("assistant", "").strip().split("|>")[:-1]]
        lacking = [token for token in controls if token not in tokenizer.get_vocab()]
        if lacking or not tokenizer.chat_template:
            raise DataError(
                f"{self.name_or_path}: the tokenizer has no {lacking[0] if lacking else 'chat template'}",
                hint=f"{ARCHITECTURE} reads Llama 3's chat format; take the tokenizer that it was published with",
            )
        self.turn_change = tuple(tokenizer(TURN_CHANGE, add_special_tokens=False)["input_ids"])

    def gate_place(self, ids: Sequence[int]) -> int:
        """Index of the token after which the gate reads a row.

        Raises:
            DataError: If no assistant's turn begins in it.
        """
        mark = list(self.turn_change)
        for place in range(len(ids) - len(mark), -1, -1):
            if list(ids[place : place + len(mark)]) == mark:
                return place
        raise DataError(
            "no assistant's turn begins in what is read, and that is where the gate weighs the objectives",
            hint="the chat template must write Llama 3's assistant header after the end of a turn; "
            "or is `max_length` too small?",
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Scores of rows padded on the right.

        Args:
            input_ids: Token ids, [rows, tokens], int64.
            attention_mask: 1 on tokens and 0 on padding, [rows, tokens].

        Returns:
            `logits`: the scores, [rows, 1], float32.

        Raises:
            DataError: If no assistant's turn begins in a row.
        """
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        rows = torch.arange(len(states), device=states.device)
        places = torch.tensor([self.gate_place(ids) for ids in input_ids.tolist()], device=states.device)
        rewards = self.regression_layer(states[rows, attention_mask.sum(dim=1) - 1].float())
        weights = self.gating(states[rows, places].float())
        scores = (weights * (rewards @ self.reward_transform_matrix)).sum(dim=1, keepdim=True)
        return SequenceClassifierOutput(logits=scores)


def _number(config: LlamaConfig, name: str, default: int, *, whole: bool = True) -> Any:
    value = getattr(config, name, default)
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not isfinite(value) or value <= 0:
        raise DataError(f"{config.name_or_path}: `{name}` of its config is {value!r}, no positive number")
    return value
