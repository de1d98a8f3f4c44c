"""A pair-preference language model as an oracle: the logit of answering A less that of answering B.

The question is read once and the two answers after it, by the log-probs that policies are scored with: what the two
share cancels. Left out: the question (`lm_encoding.py`), the queue of pairs (`pair_queue.py`). Floor 4.

Source: Dong et al. 2024, arXiv:2405.07863 (RLHFlow).
"""

from collections.abc import Sequence

from torch import Tensor

from fairplay.models.loading import Policy, load_policy
from fairplay.models.probe import choose_layout
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from fairplay.oracles.batching import token_budget
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.facts import read_facts
from fairplay.oracles.kinds.pair_lm import PairLmSettings
from fairplay.oracles.lm_encoding import QuestionEncoder
from fairplay.oracles.pair_oracle import PairOracle
from fairplay.oracles.source import Source

_TILE = 256  # answers whose logits are held at a time


class AnswerLogits:
    """The log-odds of answering A against B after a question.

    Args:
        policy: Model, in evaluation mode, and tokenizer.
        encoder: Asks the questions.
    """

    def __init__(self, policy: Policy, encoder: QuestionEncoder) -> None:
        self.model, self.encoder = policy.model, encoder
        self.layout = choose_layout(self.model, longest=encoder.max_length, trains=False).layout

    def __call__(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Log-odds after each question, [rows]."""
        answers = [(row, (label,)) for row in rows for label in self.encoder.label_ids]
        logps = score_rows(self.model, answers, tile=_TILE, layout=self.layout).logps.view(-1, 2)
        return logps[:, 0] - logps[:, 1]


def load_pair_lm(settings: PairLmSettings) -> PreferenceOracle:
    """The oracle that the settings name, from a folder or the hub, on cuda if there is one.

    Raises:
        DataError: If there is no such model, or its tokenizer can't ask the question.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
        ResourceError: If memory ran out.
    """
    commit = settings.source.commit()
    policy = load_policy(settings.model, ModelSettings(dtype=settings.dtype, revision=commit))
    facts = read_facts(Source(settings.model, commit))
    longest = min(settings.max_length, facts.max_length or settings.max_length)
    encoder = QuestionEncoder(policy.tokenizer, max_length=longest)
    return PairOracle(
        encoder,
        AnswerLogits(policy, encoder),
        settings,
        name=settings.full_name(),
        temperature=facts.temperature,
        max_tokens=token_budget(settings.batch_size, longest, policy.model.device),
    )
