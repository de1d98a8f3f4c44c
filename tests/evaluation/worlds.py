"""Made-up evaluations with a known truth, shared by the tests of this folder."""

import numpy as np

from fairplay.evaluation.columns import JudgementColumns
from fairplay.records import Judgement, Message, Prompt, Response, ResponseGroup


def judgements_of(win_probs, policy_lengths, opponent_lengths, *, bias=0.0):
    """Judgements from arrays [prompts, samples]."""
    return [
        Judgement(
            f"p{prompt:05d}",
            sample,
            float(np.clip(win_probs[prompt, sample] + bias, 0, 1)),
            float(np.clip(win_probs[prompt, sample] - bias, 0, 1)),
            int(policy_lengths[prompt, sample]),
            int(opponent_lengths[prompt, sample]),
        )
        for prompt in range(win_probs.shape[0])
        for sample in range(win_probs.shape[1])
    ]


def draw_world(kind, num_prompts, num_samples, rng):
    """Win probabilities and lengths [prompts, samples] of an evaluation in which length is rewarded."""
    shape = (num_prompts, num_samples)
    policy = np.ceil(rng.lognormal(4.2, 0.6, size=shape))
    opponent = np.ceil(rng.lognormal(4.0, 0.6, size=shape))
    by_prompt = rng.normal(size=(num_prompts, 1))
    logits = {"high": 2.5, "probabilities": 0.3, "letters": 0.3, "ties": 0.4}[kind] + 0.9 * by_prompt
    win_probs = 1 / (1 + np.exp(-(logits + np.tanh((policy - opponent) / 60))))
    if kind != "probabilities":
        win_probs = (rng.random(shape) < win_probs).astype(float)
    if kind == "ties":
        win_probs = np.where(rng.random(shape) < 0.6, 0.5, win_probs)
    return win_probs, policy, opponent


JUDGES = {
    "letters": lambda chances, rng: (rng.random(chances.shape) < chances).astype(float),
    "graded": lambda chances, rng: chances,
    "tied": lambda chances, rng: np.where(rng.random(chances.shape) < 0.6, 0.5, JUDGES["letters"](chances, rng)),
    "two letters": lambda chances, rng: rng.binomial(2, chances) / 2,
}


def draw_games(
    rng,
    *,
    num_prompts,
    strengths,
    slope,
    num_samples=1,
    growth=0.15,
    judge="letters",
    merit=0.0,
    by_prompt=lambda rng, shape: 0.4 * rng.normal(size=shape),
    missing=0.0,
):
    """Games of every pair of checkpoints, i < j, in which a prompt favours some of them and length is rewarded.

    `merit`: quality of a response that is one standard deviation longer than others; `missing`: share of the prompts
    that each pair was not judged on.
    """
    size = len(strengths)
    lengths = np.ceil(rng.lognormal(4.0, 0.5, size=(size, num_prompts, num_samples)))
    merits = merit * (np.log(lengths) - 4.0) / 0.5
    lengths = np.ceil(lengths * np.exp(growth * np.arange(size))[:, None, None])
    skills = np.array(strengths)[:, None, None] + by_prompt(rng, (size, num_prompts, 1)) + merits
    games = {}
    for i in range(size):
        for j in range(i + 1, size):
            logits = skills[j] - skills[i] + slope * np.tanh((lengths[j] - lengths[i]) / 60)
            outcomes = JUDGES[judge](1 / (1 + np.exp(-logits)), rng)
            asked = rng.random(num_prompts) >= missing if missing else np.full(num_prompts, True)
            games[i, j] = columns_of(outcomes[asked], lengths[j][asked], lengths[i][asked], np.flatnonzero(asked))
    return games


def columns_of(win_probs, policy_lengths, opponent_lengths, prompts):
    """What `judgement_columns` makes of `judgements_of` these, far faster; `prompts` are their numbers."""
    num_prompts, num_samples = win_probs.shape
    verdicts = win_probs.ravel()
    return JudgementColumns(
        prompt_ids=tuple(f"p{prompt:05d}" for prompt in prompts),
        samples=np.tile(np.arange(num_samples), num_prompts),
        prompt_index=np.repeat(np.arange(num_prompts), num_samples),
        row_weights=np.full(win_probs.size, 1 / num_samples),
        win_prob_first=verdicts,
        win_prob_second=verdicts,
        win_probs=verdicts,
        policy_lengths=policy_lengths.ravel(),
        opponent_lengths=opponent_lengths.ravel(),
    )


def group(prompt_id, *texts, question="Say something.", **columns):
    """Responses to one prompt."""
    prompt = Prompt(prompt_id, (Message("user", question),))
    return ResponseGroup(prompt, tuple(Response(text, **columns) for text in texts))
