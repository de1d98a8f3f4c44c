"""The game of `cyclic_oracle.py`: who beats whom, the rewards that are fitted to it, and the ways to train on it.

Left out: who plays it (`cyclic_table.py`, `cyclic_world.py`), and what is told of it (`cyclic_oracle.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from fairplay.preferences.game import exploitability
from fairplay.preferences.win_matrix import win_matrix
from fairplay.seeds import stable_seed

Vector = NDArray[np.float64]
CIRCLE = np.log(9.0) * np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])  # each beats the next with probability 0.9
ORDER_BIAS = 0.3
START = np.array([0.3, 0.5, 0.2])
NUM_LABELS = 2000
WORST = float(exploitability(win_matrix(CIRCLE), np.eye(3)[0]))


def circle_rewards(seed: int) -> Vector:
    """Rewards of the Bradley-Terry model that fits best the circle's verdicts on the start policy's responses, [3]."""
    draws = np.random.default_rng(stable_seed(seed, "labels"))
    one, other = draws.choice(3, size=(2, NUM_LABELS), p=START)
    wins = draws.random(NUM_LABELS) < expit(CIRCLE[one, other])
    sign = np.where(wins, 1.0, -1.0)

    def loss(rewards: Vector) -> float:
        return float(np.logaddexp(0, -sign * (rewards[one] - rewards[other])).mean() + 1e-6 * rewards @ rewards)

    return np.asarray(minimize(loss, np.zeros(3)).x)


def _by_reward(seed: int) -> Vector:
    rewards = circle_rewards(seed)
    return np.subtract.outer(rewards, rewards)


@dataclass(frozen=True)
class Arm:
    """One way to train: whose logits between the kinds (from the seed), and by which rule they become probabilities."""

    title: str
    logits: Callable[[int], Vector]
    rule: str
    colour: str


ARMS: Mapping[str, Arm] = {
    "bradley-terry": Arm("Bradley-Terry reward", _by_reward, "calibrated", "#cf222e"),
    "calibrated": Arm("pair probabilities, `calibrated`", lambda seed: CIRCLE, "calibrated", "#0550ae"),
    "sppo-code": Arm("pair probabilities, `sppo-code`", lambda seed: CIRCLE, "sppo-code", "#8250df"),
}


def exploited(policies: Vector) -> float:
    """What the best opponent of each policy wins above one half by the circle itself, mean over policies, [..., 3]."""
    truth = win_matrix(CIRCLE)
    return float(np.mean([exploitability(truth, policy) for policy in policies.reshape(-1, 3)]))
