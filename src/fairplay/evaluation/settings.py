"""How an iterate is evaluated.

Left out: the evaluation itself. Floor 5; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.settings import OracleSettings

OPPONENTS: Mapping[str, str] = {
    "start": "the policy from which the run started",
    "previous": "the policy of the iteration before",
}

MIN_BOOTSTRAP = 200


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is judged by whom, and how often the prompts are resampled for the intervals.

    Attributes:
        prompts: Held-out prompts: a local file or folder, or a hub id; training never sees them.
        judge: Who judges; best not the oracle that the training learns from.
        num_prompts: How many of the prompts, drawn by the run's seed; 0 takes all.
        num_samples: Responses of either side to each prompt; sample s meets sample s.
        num_bootstrap: Resamples of the prompts behind each 95 % interval; the length model is refitted in each.
        opponents: Names in `OPPONENTS`, each once; the first is the headline.
        all_checkpoints: Whether, after the last iteration, the judge also compares the checkpoints that have not met:
            (n - 1)(n - 2) / 2 more comparisons for n iterations if the opponents are the default ones.
    """

    prompts: str
    judge: OracleSettings
    num_prompts: int = 0
    num_samples: int = 1
    num_bootstrap: int = 2000
    opponents: tuple[str, ...] = ("start", "previous")
    all_checkpoints: bool = True

    def __post_init__(self) -> None:
        if self.num_prompts < 0:
            raise SettingsError(f"evaluation.num_prompts: {self.num_prompts} is less than 0")
        if self.num_samples < 1:
            raise SettingsError(f"evaluation.num_samples: {self.num_samples} is less than 1")
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(
                f"evaluation.num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}",
                hint="the ends of a 95 % interval rest on a few per cent of the resamples; 2000 takes under a second",
            )
        if not self.opponents:
            raise SettingsError("evaluation.opponents: there is none", hint=f"known: {', '.join(OPPONENTS)}")
        for opponent in self.opponents:
            lookup(OPPONENTS, opponent, "opponent")
        check_judge(self.judge, "evaluation.judge")
        if len(set(self.opponents)) < len(self.opponents):
            raise SettingsError("evaluation.opponents: one is there twice")


def check_judge(judge: OracleSettings, name: str) -> None:
    """Refuse a judge that would read pairs in one order only.

    Args:
        judge: The judge.
        name: What the settings call it.

    Raises:
        SettingsError: If it would.
    """
    for key, value in judge.economies().items():
        raise SettingsError(
            f"{name}.{key}: `{value}`; a judge reads every pair in both orders",
            hint="half the cost is for the training oracle, where a prompt has many pairs",
        )
