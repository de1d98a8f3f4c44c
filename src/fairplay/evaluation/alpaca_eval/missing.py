"""What one model's annotations lack: instructions, verdicts, lengths; and whether they are the official judge's.

Left out: the numbers themselves (`results`). Floor 5; pure.
"""

from fairplay.evaluation.alpaca_eval.annotations import ModelAnnotations
from fairplay.evaluation.alpaca_eval.inputs import LcInputs
from fairplay.evaluation.alpaca_eval.raw_metrics import RawMetrics
from fairplay.evaluation.alpaca_eval.settings import OFFICIAL_JUDGE
from fairplay.wording import plural


def num_expected(model: ModelAnnotations, inputs: LcInputs) -> int:
    """Instructions that the evaluation set has, as far as annotations, output files and difficulties tell."""
    return max(model.num_expected, len(inputs.difficulties))


def missing_notes(model: ModelAnnotations, raw: RawMetrics, inputs: LcInputs) -> list[str]:
    """What is missing, in words; empty where nothing is."""
    notes, expected = [], num_expected(model, inputs)
    if missing := expected - len(model.instructions):
        notes.append(f"{missing} of {expected} instructions have no annotation of this model.")
    if raw.num_failed:
        notes.append(f"The judge failed on {raw.num_failed} of {len(model.preferences)} instructions.")
    if places := model.missing_lengths:
        notes.append(f"No LC win rate: {plural(len(places), 'row')} without a length, the first in {places[0]}.")
    return notes


def judge_notes(model: ModelAnnotations, inputs: LcInputs) -> list[str]:
    """A word of warning where gamed rows of one judge are fitted together with another judge's verdicts."""
    if inputs.gamed is None or model.judge in ("", OFFICIAL_JUDGE):
        return []
    return [
        f"Difficulties and gamed rows of v1 are from verdicts of {OFFICIAL_JUDGE}, these are {model.judge}'s:"
        " `--lc minimal`, or `--lc noreg --fit-difficulty`, takes nothing from the other judge."
    ]
