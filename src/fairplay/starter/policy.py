"""A tiny Llama made and trained on the spot: tokenizer fitted to the texts, weights drawn from the seed, one SFT.

Left out: which texts (`build.py` brings the world's; `fit_starter` takes anyone's). Floor 6. The training is
`training.loop.train` with the objective `sft`, as for any model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fairplay.errors import DataError
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.objectives.table import build_objective
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.claim import claim
from fairplay.starter.settings import StarterPolicySettings
from fairplay.starter.tokenizer import train_tokenizer
from fairplay.storage.digests import sha256_value
from fairplay.storage.settings_file import settings_document
from fairplay.training.loop import train
from fairplay.training.settings import TrainingSettings
from fairplay.training.summary import TrainingSummary

NUM_TOKENIZER_EXAMPLES = 6000
INITIALIZER_RANGE = 0.05
"""Standard deviation of the first weights; at this width it learns faster than the usual 0.02 (after 900 steps greedy
accuracy is 0.79 instead of 0.51)."""
CPU = ModelSettings(device="cpu")
"""Models of this size are fastest on one core, and there every result has the same bytes."""


def train_policy(
    output: Path,
    examples: Sequence[TrainingExample],
    settings: StarterPolicySettings,
    *,
    work: Path,
    seed: int,
    should_stop: Callable[[], bool],
) -> TrainingSummary:
    """Make a policy that writes like these examples; called again after a kill, it goes on.

    Args:
        output: The policy's folder, in Hugging Face format; it appears when it is whole.
        examples: One response each.
        settings: Sizes and steps.
        work: Folder for the untrained policy, logs and checkpoints.
        seed: Decides weights and batches.
        should_stop: Asked after every step.

    Raises:
        Preempted: If `should_stop` said so.
    """
    start = work / "start"
    if not start.exists():
        work.mkdir(parents=True, exist_ok=True)
        save_policy(_untrained_policy(examples, settings, seed), start)
    return train(
        model=str(start),
        reference=str(start),
        examples=examples,
        objective=build_objective("sft", {}),
        settings=_training_settings(settings),
        model_settings=CPU,
        output=output,
        work=work,
        seed=stable_seed(seed, "sft"),
        should_stop=should_stop,
    )


def fit_starter(
    folder: Path,
    conversations: Sequence[TrainingExample],
    settings: StarterPolicySettings,
    *,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """The tiny policy with its tokenizer fitted to someone's own conversations instead of the embedded world.

    Args:
        folder: Where `policy/` goes; logs and checkpoints lie in `folder/sft`.
        conversations: Supervised examples, or preference data, of which the chosen responses are learnt.
        settings: Sizes and steps; for real text see `settings.REAL_TEXT`.
        seed: Decides weights and batches.
        should_stop: Asked after every step.

    Returns:
        The policy's folder.

    Raises:
        DataError: If there is nothing to learn.
        SettingsError: If the folder holds a policy of other settings, data or seed.
        LockedError: If another process is making it.
        Preempted: If `should_stop` said so.
    """
    examples = [part for example in conversations for part in _learnt_responses(example)]
    if not examples:
        raise DataError("no conversation to fit the starter policy to")
    output = folder / "policy"
    texts = [[[m.content for m in e.prompt.messages], [r.text for r in e.responses]] for e in examples]
    with claim(folder, {"seed": seed, "conversations": sha256_value(texts), **settings_document(settings)}):
        train_policy(output, examples, settings, work=folder / "sft", seed=seed, should_stop=should_stop)
    return output


def _learnt_responses(example: TrainingExample) -> list[TrainingExample]:
    """One supervised example for each chosen response; all of them where there are no pairs."""
    indices = sorted({chosen for chosen, _ in example.pairs} or range(len(example.responses)))
    return [
        TrainingExample(id=f"{example.id}#{index}", prompt=example.prompt, responses=(example.responses[index],))
        for index in indices
    ]


def _untrained_policy(examples: Sequence[TrainingExample], settings: StarterPolicySettings, seed: int) -> Policy:
    seen = examples[:NUM_TOKENIZER_EXAMPLES]
    texts = [m.content for e in seen for m in e.prompt.messages] + [r.text for e in seen for r in e.responses]
    tokenizer = train_tokenizer(texts, settings.vocab_size)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.hidden_size * 5 // 2,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        num_key_value_heads=settings.num_attention_heads,
        max_position_embeddings=2 * settings.max_length,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(stable_seed(seed, "weights"))
        model = LlamaForCausalLM(config)
    return Policy(model=model, tokenizer=tokenizer, source="starter")


def _training_settings(settings: StarterPolicySettings) -> TrainingSettings:
    return TrainingSettings(
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_ratio=0.01,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        adam_beta2=0.98,
        weight_decay=0.01,
        max_length=settings.max_length,
        max_prompt_length=settings.max_length - 1,
        prompt_loss_weight=settings.prompt_loss_weight,
        logging_steps=50,
        save_steps=250,
    )
