"""A learned preference between two responses: a language model's body reads both, a small head says which is better.

The head sees the mean state of each response and the last state; on the embedded world that beats the last state alone
by 3 to 4 points of accuracy. Left out: training (`training/oracle_training.py`), asking it about whole groups
(`pair_oracle.py`). Floor 4.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel

from fairplay.errors import DataError, SettingsError
from fairplay.models.loading import configure_threads, load_tokenizer, resolve_device
from fairplay.models.settings import ModelSettings
from fairplay.oracles.batching import pad_right, token_budget
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.pair_encoding import PairEncoder, PairRow
from fairplay.oracles.pair_oracle import PairOracle

HEAD_FILE = "pair_head.safetensors"
FACTS_FILE = "pair_model.json"


@dataclass(frozen=True, slots=True)
class PairModelFacts:
    """What a pair model's folder says beside weights and tokenizer.

    Attributes:
        temperature: T fitted on held-out pairs; P(a beats b) = sigmoid(d / T), d averaged over both orders.
        max_length: Longest row in tokens that the model was trained to read.
    """

    temperature: float
    max_length: int


class PairModel(nn.Module):
    """The logit that the first of two responses beats the second.

    Args:
        body: A causal language model without its vocabulary head, such as `LlamaModel`.
        tokenizer: The body's tokenizer, with a chat template.
        facts: Temperature and longest row.
        head_seed: Seeds the head's first weights; torch's global generator is left alone.
    """

    def __init__(self, body: Any, tokenizer: Any, facts: PairModelFacts, *, head_seed: int = 0) -> None:
        super().__init__()
        width = int(body.config.hidden_size)
        self.body, self.tokenizer, self.facts = body, tokenizer, facts
        generator = torch.Generator().manual_seed(head_seed)
        self.head = nn.Sequential(_linear(3 * width, width, generator), nn.GELU(), _linear(width, 1, generator))

    def encoder(self, max_length: int) -> PairEncoder:
        """The encoder of this model's rows, no longer than the model was trained to read."""
        return PairEncoder(self.tokenizer, max_length=min(max_length, self.facts.max_length))

    def forward(self, rows: Sequence[PairRow]) -> Tensor:
        """Logits that each row's first response beats its second, [rows], float32.

        Rows are padded on the right and masked, so that a logit does not depend on the other rows.
        """
        device = next(self.head.parameters()).device
        pad_id = self.tokenizer.pad_token_id
        ids, mask = pad_right([row.ids for row in rows], pad_id=0 if pad_id is None else pad_id, device=device)
        states = self.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        places = torch.arange(ids.shape[1], device=device)
        pooled = [
            _mean_state(states, places, torch.tensor([row.first for row in rows], device=device)),
            _mean_state(states, places, torch.tensor([row.second for row in rows], device=device)),
            states[torch.arange(len(rows), device=device), mask.sum(1) - 1].float(),
        ]
        logits: Tensor = self.head(torch.cat(pooled, dim=-1))
        return logits.squeeze(-1)

    def save(self, folder: Path) -> None:
        """Write the body in Hugging Face format with its tokenizer, the head and the facts into a new folder."""
        self.body.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_file({name: value.contiguous() for name, value in self.head.state_dict().items()}, folder / HEAD_FILE)
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self.facts), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, dtype: str = "float32") -> "PairModel":
        """A pair model from the folder that `save` wrote, ready to judge, on cuda if there is one.

        Args:
            folder: The folder.
            dtype: Floating-point type of the body; the head stays float32.

        Raises:
            SettingsError: If there is no such folder.
            DataError: If the folder holds no pair model.
        """
        facts = read_facts(folder)
        try:
            body = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True)
            model = cls(body, load_tokenizer(str(folder)), facts)
            model.head.load_state_dict(load_file(folder / HEAD_FILE))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise DataError(f"{folder}: no pair model could be loaded: {str(error).splitlines()[0]}") from error
        return model.to(resolve_device(ModelSettings())).eval()


def read_facts(folder: Path) -> PairModelFacts:
    """What a pair model's folder says of itself.

    Raises:
        SettingsError: If there is no such folder.
        DataError: If the folder holds no pair model.
    """
    if not folder.is_dir():
        raise SettingsError(f"oracle.model: there is no folder {folder}", hint="`pair_model` takes a local folder")
    for name in (HEAD_FILE, FACTS_FILE):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder} is no pair model: it has no {name}", hint="train one with `fairplay train-oracle`"
            )
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        return PairModelFacts(temperature=float(facts["temperature"]), max_length=int(facts["max_length"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FACTS_FILE} can't be read: {error!r}") from error


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer with normal weights of variance 1 / inputs and biases 0."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _mean_state(states: Tensor, places: Tensor, spans: Tensor) -> Tensor:
    """Mean hidden state over each row's span: [rows, tokens, width], [tokens], [rows, 2] -> [rows, width], float32."""
    inside = (places >= spans[:, :1]) & (places < spans[:, 1:])
    weights = inside.float() / inside.sum(dim=1, keepdim=True)
    return torch.einsum("rtw,rt->rw", states.float(), weights)


def load_pair_model(settings: PairModelSettings) -> PreferenceOracle:
    """The oracle in the folder that the settings name.

    Raises:
        SettingsError: If there is no such folder.
        DataError: If the folder holds no pair model.
    """
    model = PairModel.load(Path(settings.model), dtype=settings.dtype).eval()
    configure_threads(sum(parameter.numel() for parameter in model.parameters()))
    return PairOracle(
        model.encoder(settings.max_length),
        model,
        settings,
        name=settings.full_name(),
        temperature=model.facts.temperature,
        max_tokens=token_budget(settings.batch_size, settings.max_length, model.body.device),
    )
