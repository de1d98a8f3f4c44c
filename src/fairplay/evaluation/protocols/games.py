"""Pairs of responses, the games in which a judge compares them, and what became of each.

Left out: statistics (`scores`), who judges (`oracles.pair_judge`). Floor 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fairplay.errors import DataError
from fairplay.evaluation.judging import NO_OPPONENT, NO_POLICY
from fairplay.evaluation.protocols.orders import policy_first
from fairplay.oracles.judge_template import conversation_text
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.oracles.pair_judge import PairJudge, PairQuestion
from fairplay.records import Dropped, Message, Prompt, Response, ResponseGroup


@dataclass(frozen=True, slots=True)
class Pair:
    """The policy's text and the opponent's in response to one prompt, with their lengths."""

    prompt: Prompt
    sample: int
    policy: str
    opponent: str
    policy_length: int
    opponent_length: int

    @property
    def same_text(self) -> bool:
        """Whether the two are the same; no judge is asked then."""
        return self.policy == self.opponent


@dataclass(frozen=True, slots=True)
class Matched:
    """What is to be compared.

    Attributes:
        pairs: Responses of both sides to one prompt.
        unmatched: Responses without a partner.
        length_unit: Of all lengths: "tokens" where every response has token ids, else "characters".
    """

    pairs: tuple[Pair, ...]
    unmatched: tuple[Dropped, ...]
    length_unit: str


@dataclass(frozen=True, slots=True)
class Game:
    """One showing of a pair, and the judge's verdict on the response shown first."""

    policy_first: bool
    verdict: Verdict | NoVerdict

    @property
    def win_prob(self) -> float | None:
        """P(the policy's response wins); None where there is no verdict."""
        if isinstance(self.verdict, NoVerdict):
            return None
        return self.verdict.win_prob if self.policy_first else 1 - self.verdict.win_prob


@dataclass(frozen=True, slots=True)
class PlayedPair:
    """A pair with its games; identical texts have none and are an exact tie."""

    pair: Pair
    games: tuple[Game, ...]

    @property
    def win_prob(self) -> float | None:
        """P(the policy's response wins), the mean of its games; None where one of them has no verdict."""
        found = [game.win_prob for game in self.games]
        known = [win_prob for win_prob in found if win_prob is not None]
        if len(known) < len(found):
            return None
        return sum(known) / len(known) if known else 0.5

    @property
    def failures(self) -> tuple[str, ...]:
        """Why games have no verdict."""
        return tuple(game.verdict.reason for game in self.games if isinstance(game.verdict, NoVerdict))


@dataclass(frozen=True, slots=True)
class Played:
    """What became of everything that was to be compared; `unmatched` and `length_unit` as in `Matched`."""

    pairs: tuple[PlayedPair, ...]
    unmatched: tuple[Dropped, ...]
    length_unit: str


def match_pairs(policy: Sequence[ResponseGroup], opponent: Sequence[ResponseGroup]) -> Matched:
    """Sample s of the policy against sample s of the opponent, on every prompt that both responded to.

    Prompts are matched by what was asked, not by their ids.

    Args:
        policy, opponent: Responses by prompt, in any order.

    Returns:
        The pairs in the policy's order, and what has no partner.

    Raises:
        DataError: If a side has a prompt twice.
    """
    ours, theirs = _by_messages(policy, "policy"), _by_messages(opponent, "opponent")
    found: list[tuple[Prompt, int, Response, Response]] = []
    dropped = []
    for messages, group in ours.items():
        partner = theirs[messages].responses if messages in theirs else ()
        for sample, (one, other) in enumerate(zip(group.responses, partner, strict=False)):
            found.append((group.prompt, sample, one, other))
        surplus = len(group.responses) - len(partner)
        dropped += [Dropped(group.prompt.id, NO_OPPONENT)] * surplus + [Dropped(group.prompt.id, NO_POLICY)] * -surplus
    for messages, group in theirs.items():
        if messages not in ours:
            dropped += [Dropped(group.prompt.id, NO_POLICY)] * len(group.responses)
    in_tokens = all(one.token_ids and other.token_ids for *_, one, other in found)
    pairs = tuple(
        Pair(prompt, sample, one.text, other.text, _length(one, in_tokens), _length(other, in_tokens))
        for prompt, sample, one, other in found
    )
    return Matched(pairs, tuple(dropped), "tokens" if in_tokens else "characters")


def _length(response: Response, in_tokens: bool) -> int:
    return len(response.token_ids) if in_tokens else len(response.text)


def _by_messages(groups: Sequence[ResponseGroup], side: str) -> dict[tuple[Message, ...], ResponseGroup]:
    found: dict[tuple[Message, ...], ResponseGroup] = {}
    for group in groups:
        if group.prompt.messages in found:
            raise DataError(
                f"prompt {group.prompt.id} is there twice among the responses of the {side}",
                hint="put all responses to a prompt into one row, or remove one",
            )
        found[group.prompt.messages] = group
    return found


def post_of(text: str) -> str:
    """The post in a TL;DR prompt: what stands between "POST:" and the "TL;DR:" at its end; other prompts as they are.

    Source: the authors of DPO show their judge the post without subreddit and title.
    """
    return text.partition("POST:")[2 if "POST:" in text else 0].strip().removesuffix("TL;DR:").strip()


def questions_of(
    pairs: Sequence[Pair], orders: str, *, seed: int, posts: bool = False
) -> list[list[tuple[bool, PairQuestion]]]:
    """For each pair its games: whether the policy is shown first, and the question.

    Args:
        pairs, orders, seed: As for `play`.
        posts: Whether of a prompt the judge sees the post alone, see `post_of`.
    """
    asked = []
    for pair in pairs:
        games: list[tuple[bool, PairQuestion]] = []
        if not pair.same_text:
            text = conversation_text(pair.prompt.messages)
            seen = Prompt(pair.prompt.id, (Message("user", post_of(text)),)) if posts else pair.prompt
            for first in policy_first(orders, text, pair.prompt.id, pair.sample, seed=seed):
                shown = (pair.policy, pair.opponent) if first else (pair.opponent, pair.policy)
                games.append((first, PairQuestion(seen, *shown)))
        asked.append(games)
    return asked


def play(
    matched: Matched,
    judge: PairJudge,
    *,
    orders: str,
    seed: int,
    posts: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Played:
    """Have the judge compare every pair.

    Args:
        matched: What to compare.
        judge: Who compares.
        orders: A name in `orders.ORDERS`.
        seed: Of the run.
        posts: See `questions_of`.
        should_stop: See `PairJudge.ask`.
    """
    asked = questions_of(matched.pairs, orders, seed=seed, posts=posts)
    verdicts = iter(judge.ask([question for games in asked for _, question in games], should_stop=should_stop))
    pairs = tuple(
        PlayedPair(pair, tuple(Game(first, next(verdicts)) for first, _ in games))
        for pair, games in zip(matched.pairs, asked, strict=True)
    )
    return Played(pairs, matched.unmatched, matched.length_unit)
