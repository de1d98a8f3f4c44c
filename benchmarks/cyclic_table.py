"""Self-play on the circle with a table of three probabilities for a policy, so that there is time for many iterations.

All else is the real thing: five sampled responses a prompt, the oracle's logits in both orders,
`preferences.selection`, and SPPO's loss from `objectives`. Left out: a language model (`cyclic_world.py`).
"""

from collections.abc import Sequence

import numpy as np
import torch

from cyclic_circle import ORDER_BIAS, START, Arm, Vector
from fairplay.logps import PreferenceBatch, StepTotals, TokenLogps
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.table import build_objective
from fairplay.preferences.selection import select_examples
from fairplay.preferences.settings import SelectionSettings
from fairplay.records import Message, PreferenceGroup, Prompt, Response, ResponseGroup, TrainingExample
from fairplay.seeds import stable_seed

KINDS = ("rock", "paper", "scissors")
ETA = 0.5
NUM_PROMPTS, NUM_RESPONSES = 100, 5


def judged(policy: Vector, logits: Vector, draws: np.random.Generator) -> list[PreferenceGroup]:
    """Five responses of the policy to every prompt, with the oracle's logits of every ordered pair."""
    groups = []
    for number in range(NUM_PROMPTS):
        kinds = draws.choice(3, size=NUM_RESPONSES, p=policy)
        pair_logits = logits[np.ix_(kinds, kinds)] + ORDER_BIAS * (1 - np.eye(NUM_RESPONSES))
        group = ResponseGroup(
            Prompt(f"p{number}", (Message("user", "?"),)), tuple(Response(KINDS[kind]) for kind in kinds)
        )
        groups.append(PreferenceGroup(group, tuple(map(tuple, pair_logits.tolist())), (False,) * NUM_RESPONSES))
    return groups


def train(policy: Vector, examples: Sequence[TrainingExample]) -> Vector:
    """The table that minimises SPPO's loss over the examples, the policy that wrote them being its reference."""
    kinds = torch.tensor([KINDS.index(response.text) for example in examples for response in example.responses])
    sizes = [len(example.responses) for example in examples]
    reference, parameters = torch.tensor(np.log(policy)), torch.tensor(np.log(policy), requires_grad=True)
    objective = build_objective("sppo", {"eta": ETA})
    columns = {"win_rates": torch.tensor([rate for example in examples for rate in example.win_rates])}
    totals = StepTotals(len(examples), 0, len(kinds), 0.0)
    optimizer = torch.optim.LBFGS([parameters], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        flat = torch.arange(len(kinds))
        logps = TokenLogps(
            policy=parameters.log_softmax(0)[kinds],
            reference=reference[kinds],
            response_index=flat,
            position=torch.zeros_like(flat),
            num_responses=len(kinds),
        )
        batch = PreferenceBatch(
            logps=logps,
            example_index=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
            num_examples=len(sizes),
            pairs=torch.empty((0, 2), dtype=torch.int64),
            example_keys=torch.arange(len(sizes)),
            columns=columns,
        )
        value = evaluate(objective, batch, totals).loss
        value.backward()
        return value

    optimizer.step(loss)
    return np.asarray(parameters.detach().softmax(0).numpy())


def play(arm: Arm, seed: int, num_iterations: int) -> Vector:
    """The policies pi_1 ... pi_{T+1}, [T + 1, 3]."""
    draws = np.random.default_rng(stable_seed(seed, "responses"))
    logits, policies = arm.logits(seed), [START]
    for iteration in range(num_iterations):
        groups = judged(policies[-1], logits, draws)
        settings = SelectionSettings(kind="all", rule=arm.rule)
        selection = select_examples(groups, settings, temperature=1.0, seed=stable_seed(seed, iteration))
        policies.append(train(policies[-1], selection.examples) if selection.examples else policies[-1])
    return np.asarray(policies)
