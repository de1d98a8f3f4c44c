"""In which order a pair is shown: AlpacaEval's own draw, a draw by hash, or both orders.

Left out: showing it (`games`). Floor 5; pure.
"""

import random
from collections.abc import Mapping

from fairplay.seeds import stable_seed

ORDERS: Mapping[str, str] = {
    "official": "AlpacaEval's: one order a pair, drawn from the instruction's text, the same for every model and judge",
    "random": "one order a pair, drawn from a hash of seed, prompt and sample",
    "both": "every pair twice, each response shown first once",
}


def official_switch(instruction: str, *, annotator_seed: int = 0) -> bool:
    """Whether AlpacaEval shows the model's output first (it "switches" the baseline's away from there).

    Args:
        instruction: The instruction, to the last blank: another one is another draw.
        annotator_seed: The annotator's, 0 by default there too.

    Source: alpaca_eval 0.6.6, processors.py (RandomSwitchTwoColumnsProcessor), utils.random_seeded_choice.
    """
    drawn = random.Random(f"is_switched_outputs{instruction}{annotator_seed}")  # noqa: S311 - the official draw
    return drawn.choices([False, True], k=1)[0]


def policy_first(orders: str, instruction: str, prompt_id: str, sample: int, *, seed: int) -> tuple[bool, ...]:
    """For each game of a pair, whether the policy's response is shown first.

    Args:
        orders: A name in `ORDERS`.
        instruction: What was asked, as text.
        prompt_id, sample: Which pair.
        seed: Of the run.
    """
    if orders == "both":
        return (True, False)
    if orders == "official":
        return (official_switch(instruction),)
    return (stable_seed(seed, "order", prompt_id, sample) % 2 == 0,)
