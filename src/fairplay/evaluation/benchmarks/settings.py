"""Which benchmarks are run, and how.

Left out: the benchmarks (`table.py`) and the harness that runs them (`harness.py`). Floor 5; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairplay.errors import SettingsError
from fairplay.evaluation.settings import MIN_BOOTSTRAP
from fairplay.lookup import lookup

BACKENDS: Mapping[str, str] = {
    "hf": "transformers; also a folder with a PEFT adapter, whose base model it names",
    "vllm": "vLLM, which has to be installed beside lm_eval",
}


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """What is run on a checkpoint.

    Attributes:
        tasks: Names in `table.BENCHMARKS` (gsm8k, ifeval, piqa, mmlu, truthfulqa_mc1), or other tasks of the harness.
        num_fewshot: Task -> shots in its prompt; tasks that are not named keep the harness's own number.
        data: Folder with a folder of data for each task, for machines without a hub; empty loads from the hub.
        limit: Only the first so many items of every task (of every subject of MMLU); 0 takes all.
        apply_chat_template: Whether items are put as a user's turn; the harness's default, and the papers', is not to.
        backend: Name in `BACKENDS`.
        dtype: Type of the weights.
        device: Where the model lives; empty means cuda if there is one, else the CPU.
        batch_size: Items that are computed together.
        num_bootstrap: Resamples of the items behind intervals that have no closed form.
    """

    tasks: tuple[str, ...] = ("gsm8k", "ifeval", "piqa", "mmlu", "truthfulqa_mc1")
    num_fewshot: dict[str, int] = field(default_factory=dict)
    data: str = ""
    limit: int = 0
    apply_chat_template: bool = False
    backend: str = "hf"
    dtype: str = "float32"
    device: str = ""
    batch_size: int = 8
    num_bootstrap: int = 2000

    def __post_init__(self) -> None:
        lookup(BACKENDS, self.backend, "benchmark backend")
        if len(set(self.tasks)) < len(self.tasks):
            raise SettingsError("benchmarks.tasks: one is there twice")
        for task, shots in self.num_fewshot.items():
            if task not in self.tasks:
                raise SettingsError(f"benchmarks.num_fewshot: `{task}` is not among the tasks", hint=str(self.tasks))
            if shots < 0:
                raise SettingsError(f"benchmarks.num_fewshot: {shots} shots of `{task}`")
        if self.limit < 0:
            raise SettingsError(f"benchmarks.limit: {self.limit} is less than 0")
        if self.batch_size < 1:
            raise SettingsError(f"benchmarks.batch_size: {self.batch_size} is less than 1")
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"benchmarks.num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}")
