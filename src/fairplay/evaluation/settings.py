"""How an iterate is evaluated.

Left out: the evaluation itself. Floor 5; imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.settings import OracleSettings

OPPONENTS: Mapping[str, str] = {
    "start": "the policy from which the run started",
    "previous": "the policy of the iteration before",
}

SECOND_SAMPLE = "second-sample"
CANARIES: Mapping[str, str] = {
    "empty": "an empty response",
    "dot": "a single full stop",
    "refusal": "one polite refusal to every prompt",
    SECOND_SAMPLE: "a second sample of the opponent",
}
"""Responses with a known win rate: the last one half, the others next to nothing."""

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
        canaries: Names in `CANARIES`: what the judge compares with the start policy's responses before anything is
            trained, to see that it can't be fooled; empty for none.
        num_canary_prompts: On how many of the held-out prompts, one sample each; 0 takes all. All four on 100 prompts
            cost 800 verdicts (both presentation orders), and 100 more responses of the start policy.
    """

    prompts: str
    judge: OracleSettings
    num_prompts: int = 0
    num_samples: int = 1
    num_bootstrap: int = 2000
    opponents: tuple[str, ...] = ("start", "previous")
    all_checkpoints: bool = True
    canaries: tuple[str, ...] = tuple(CANARIES)
    num_canary_prompts: int = 100

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
        check_canaries(self.canaries, self.num_canary_prompts, "evaluation.")


def check_canaries(canaries: Sequence[str], num_prompts: int, prefix: str = "") -> None:
    """Refuse canaries that are not known or named twice, and a number of prompts below 0.

    Args:
        canaries: Their names.
        num_prompts: On how many prompts they are judged.
        prefix: What the settings' names begin with.

    Raises:
        SettingsError: If there is such a fault.
    """
    for canary in canaries:
        lookup(CANARIES, canary, "canary")
    if len(set(canaries)) < len(canaries):
        raise SettingsError(f"{prefix}canaries: one is there twice")
    if num_prompts < 0:
        raise SettingsError(f"{prefix}num_canary_prompts: {num_prompts} is less than 0")


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
