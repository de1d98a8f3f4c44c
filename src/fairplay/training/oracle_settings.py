"""How an oracle is trained, with the names that transformers' users know; the steps are those of every training.

Left out: the training (`oracle_training.py`), which pairs are held out (the pipeline says). Floor 5; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite

from fairplay.lookup import nearest_hint
from fairplay.training.settings import TrainingSettings

TRAINABLE_KINDS: Mapping[str, str] = {
    "reward_model": "a sequence classifier that gives each response one reward (Bradley-Terry)",
    "pair_model": "a causal language model's body that reads both responses, under a small head",
    "pair_lm": "a causal language model that answers A or B (RLHFlow's form)",
    "pair_ranker": "a DeBERTa that reads both responses, of PairRM's making",
}
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class OracleTrainingSettings:
    """How an oracle learns from labelled pairs; what is not explained here is as in `TrainingSettings`.

    Attributes:
        kind: A name in `TRAINABLE_KINDS`.
        learning_rate: Highest rate of the schedule; 1e-5 as in RLHFlow's reward models of 2B (their 8B: 2e-6).
        num_train_epochs: Passes over the pairs; reward models overfit from the second on.
        per_device_train_batch_size: Pairs in one micro-batch.
        max_length: Longest row in tokens (prompt and response, or both responses where both are read); longer
            input is cut, for each pair alone, and counted.
        prompt_max_length, response_max_length: Of a `pair_ranker`, instead of `max_length`: of the prompt, and of each
            response where the prompt takes all of its room; defaults are PairRM's.
        truncation_side: Side at which a `pair_ranker` loses what is too long; "left" keeps the end of long prompts.
        label_smoothing: Share of the labels that are taken to be wrong, in [0, 1/2).
        length_penalty: Weight of the squared correlation, within a micro-batch, of the logit and the difference of the
            two lengths; 0 leaves it out. For labels that love length more than they should.
        dtype: Type of the weights, float32 or bfloat16.
    """

    kind: str = "reward_model"
    learning_rate: float = 1e-5
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: Mapping[str, float | str] = field(default_factory=dict)
    warmup_ratio: float = 0.03
    num_train_epochs: float = 1.0
    max_steps: int = -1
    per_device_train_batch_size: int = 16
    gradient_accumulation_steps: int = 1
    optim: str = "adamw_torch_fused"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 1024
    prompt_max_length: int = 1224
    response_max_length: int = 412
    truncation_side: str = "right"
    label_smoothing: float = 0.0
    length_penalty: float = 0.0
    dtype: str = "float32"
    bf16: bool = False
    gradient_checkpointing: bool = False
    logging_steps: int = 10
    save_steps: int = 100
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values out of range, all at once.

        Raises:
            ValueError: With every fault; the door turns it into a `SettingsError`.
        """
        faults = _own_faults(self)
        try:
            self.steps()
        except ValueError as error:
            faults.append(str(error))
        if faults:
            raise ValueError("; ".join(faults))

    def steps(self) -> TrainingSettings:
        """The part that says how steps are taken."""
        names = {item.name for item in fields(TrainingSettings)} & {item.name for item in fields(self)}
        values = {name: getattr(self, name) for name in names - {"max_length"}}
        return TrainingSettings(**values)


def _own_faults(settings: OracleTrainingSettings) -> list[str]:
    faults = []
    if settings.kind not in TRAINABLE_KINDS:
        faults.append(
            f"kind: no oracle `{settings.kind}` can be trained, {nearest_hint(settings.kind, TRAINABLE_KINDS)}"
        )
    if settings.dtype not in DTYPES:
        faults.append(f"dtype: weights of type `{settings.dtype}` can't be trained, {' or '.join(DTYPES)} can")
    if settings.truncation_side not in ("right", "left"):
        faults.append(f"truncation_side: right or left, is `{settings.truncation_side}`")
    if not 0 <= settings.label_smoothing < 0.5:
        faults.append(f"label_smoothing: must be in [0, 0.5), is {settings.label_smoothing}")
    if not (isfinite(settings.length_penalty) and settings.length_penalty >= 0):
        faults.append(f"length_penalty: must be at least 0, is {settings.length_penalty}")
    if settings.length_penalty and settings.per_device_train_batch_size < 8:
        faults.append("length_penalty: a correlation needs a per_device_train_batch_size of 8 or more")
    is_ranker = settings.kind == "pair_ranker"
    defaults = {item.name: item.default for item in fields(OracleTrainingSettings)}
    others = ("max_length",) if is_ranker else ("prompt_max_length", "response_max_length", "truncation_side")
    changed = [name for name in others if getattr(settings, name) != defaults[name]]
    if changed:
        faults.append(f"{', '.join(changed)}: without effect for `{settings.kind}`")
    for name in ("max_length", "prompt_max_length", "response_max_length"):
        if getattr(settings, name) < 16:
            faults.append(f"{name}: must be at least 16, is {getattr(settings, name)}")
    return faults
