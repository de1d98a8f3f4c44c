"""Drawing tokens by inverse CDF: a sample is a function of its distribution and its own uniform numbers.

So a sample depends neither on its neighbours in a batch nor on a generator's state. Left out: running the model
(`transformers_engine.py`). Floor 4.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


def uniforms(seeds: Sequence[int], num_tokens: int) -> Tensor:
    """One uniform number for each sample and position.

    Args:
        seeds: Seed of each sample, non-negative.
        num_tokens: Positions; the first numbers do not depend on how many are asked for.

    Returns:
        Numbers in [0, 1), [samples, tokens], float64.
    """
    rows = [np.random.Generator(np.random.PCG64(seed)).random(num_tokens) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def sampling_probs(logits: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """The distribution that tokens are drawn from.

    Args:
        logits: [samples, vocabulary].
        temperature: Logits are divided by it; above 0.
        top_p: The fewest likeliest tokens whose probabilities reach it are kept (of equal ones, the lower id first).

    Returns:
        Probabilities, [samples, vocabulary], float64; each row sums to 1, or to the kept mass where top_p is below 1.

    Source: Holtzman et al. 2020, arXiv:1904.09751 (top-p).
    """
    probs = (logits.double() / temperature).softmax(dim=-1)
    if top_p >= 1.0:
        return probs
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    mass_before = ranked.cumsum(dim=-1) - ranked
    kept = ranked.masked_fill(mass_before >= top_p, 0.0)
    return torch.zeros_like(probs).scatter(-1, order, kept)


def inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    """The first token at which the cumulated probability passes the uniform number.

    Args:
        probs: Non-negative weights, [samples, vocabulary], float64; rows need not sum to 1.
        uniform: [samples], in [0, 1).

    Returns:
        Token ids, [samples], int64; never one of probability 0.
    """
    cdf = probs.cumsum(dim=-1)
    total = cdf[:, -1]
    below = torch.nextafter(total, torch.zeros_like(total))
    return torch.searchsorted(cdf, torch.minimum(uniform * total, below)[:, None], right=True)[:, 0]


class TokenSampler(LogitsProcessor):
    """Draws each row's next token, leaves only that one to a greedy search, and notes its log-prob.

    Args:
        seeds: One for each row of the batch.
        num_tokens: Most tokens that will be drawn.
        temperature: See `sampling_probs`; 0 takes the likeliest token.
        top_p: See `sampling_probs`.
        device: Where the logits are.
    """

    def __init__(
        self, seeds: Sequence[int], num_tokens: int, *, temperature: float, top_p: float, device: torch.device
    ) -> None:
        self.uniforms = uniforms(seeds, num_tokens).to(device)
        self.temperature, self.top_p = temperature, top_p
        self._logps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores that are 0 at the drawn token and minus infinity elsewhere, [samples, vocabulary]."""
        tokens = self._draw(scores)[:, None]
        self._logps.append(scores.gather(-1, tokens)[:, 0] - scores.logsumexp(dim=-1))
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)

    def logps(self) -> Tensor:
        """Log-probs of every token drawn so far, before temperature and top-p, [samples, tokens], nats."""
        return torch.stack(self._logps, dim=-1)

    def _draw(self, scores: Tensor) -> Tensor:
        if self.temperature == 0.0:
            return scores.argmax(dim=-1)
        probs = sampling_probs(scores, temperature=self.temperature, top_p=self.top_p)
        return inverse_cdf(probs, self.uniforms[:, len(self._logps)])
