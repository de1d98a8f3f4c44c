"""Examples as token ids: those to train on and held-out ones, with what was left out.

Left out: how a chat is rendered (`models.chat`), batches (`batches.py`). Floor 5.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fairplay.errors import DataError
from fairplay.models.encoding import EncodedExample, encode_examples
from fairplay.models.loading import load_tokenizer
from fairplay.records import Dropped, TrainingExample
from fairplay.training.settings import TrainingSettings
from fairplay.wording import reasons


@dataclass(frozen=True)
class EncodedData:
    """Examples to train on and held-out ones, as token ids, with what was left out."""

    train: tuple[EncodedExample, ...]
    train_dropped: tuple[Dropped, ...]
    held_out: tuple[EncodedExample, ...]
    held_out_dropped: tuple[Dropped, ...]


def encode_data(
    model: str,
    examples: Sequence[TrainingExample],
    eval_examples: Sequence[TrainingExample],
    settings: TrainingSettings,
    *,
    revision: str,
) -> EncodedData:
    """Encode all examples with the model's tokenizer; held-out examples without pairs are dropped.

    Raises:
        DataError: If no example is left to train on.
    """
    tokenizer = load_tokenizer(model, revision=revision)
    limits = {"max_length": settings.max_length, "max_prompt_length": settings.max_prompt_length}
    train = encode_examples(tokenizer, examples, **limits)
    if not train.examples:
        counted = Counter(dropped.reason for dropped in train.dropped)
        raise DataError(
            f"no example to train on: of {len(examples)} all were dropped ({reasons(counted)})",
            hint="raise max_length and max_prompt_length, or look at the data with `fairplay check`",
        )
    held_out = encode_examples(tokenizer, [e for e in eval_examples if e.pairs], **limits)
    unpaired = tuple(Dropped(e.id, "no pairs") for e in eval_examples if not e.pairs)
    return EncodedData(train.examples, train.dropped, held_out.examples, (*held_out.dropped, *unpaired))
