"""A judge compares the policy's responses with the opponent's, in both presentation orders.

Left out: statistics (`win_rates`), and the judges themselves (`oracles/`, met only through their protocol). Floor 5.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from fairplay.errors import DataError
from fairplay.evaluation.verdict_work import judge_or_isolate
from fairplay.oracles.contract import PreferenceOracle, reason_of
from fairplay.records import Dropped, Judgement, PreferenceGroup, Response, ResponseGroup

logger = logging.getLogger(__name__)

NO_POLICY = "no response by the policy"
NO_OPPONENT = "no response by the opponent"
JUDGE_FAILED = "judge failed"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said, and what it did not.

    Attributes:
        judgements: One for each pair of samples that was judged, by prompt in the policy's order.
        dropped: One for each pair of samples that was asked for and not judged.
        length_unit: The unit of all lengths: "tokens" where every response has token ids, else "characters".
        notes: What a reader must know of this judging, in full sentences; `evaluate_judgements` takes them.
    """

    judgements: tuple[Judgement, ...]
    dropped: tuple[Dropped, ...]
    length_unit: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    policy: ResponseGroup
    sample: int
    ours: Response
    theirs: Response

    @property
    def same_text(self) -> bool:
        return self.ours.text == self.theirs.text

    def group(self) -> ResponseGroup:
        return ResponseGroup(self.policy.prompt, (self.ours, self.theirs), self.policy.prompt_token_ids)


def judge_groups(judge: PreferenceOracle, policy: Sequence[ResponseGroup], opponent: Sequence[ResponseGroup]) -> Judged:
    """Judge one game; see `judge_games`."""
    return judge_games(judge, [(policy, opponent)])[0]


def judge_games(
    judge: PreferenceOracle, games: Sequence[tuple[Sequence[ResponseGroup], Sequence[ResponseGroup]]]
) -> list[Judged]:
    """Judge the policy's sample s against the opponent's sample s on every prompt that both have, in several games.

    Identical texts are an exact tie, and the judge does not see them. Where the judge fails (a `DataError`, or a
    verdict that is not a finite number) the pair is dropped and counted, never a tie; the pairs that came with it are
    judged without it. The judge is asked once, for the pairs of all games.

    Args:
        judge: Who judges; its logits divided by its temperature are log-odds.
        games: The responses by prompt of a policy and of its opponent, each in any order.

    Returns:
        For each game the judgements, and each pair of samples that is missing, with its reason.

    Raises:
        DataError: If a prompt id is there twice on one side, stands for two different prompts, or the judge does not
            return one judged group for each.
    """
    matched = [_match(_by_id(policy, "policy"), _by_id(opponent, "opponent")) for policy, opponent in games]
    asked = [[pair for pair in pairs if not pair.same_text] for pairs, _ in matched]
    groups = [pair.group() for pairs in asked for pair in pairs]
    verdicts = iter(judge_or_isolate(judge, groups) if groups else ())
    return [
        _judged(judge, pairs, dropped, [next(verdicts) for _ in own])
        for (pairs, dropped), own in zip(matched, asked, strict=True)
    ]


def _judged(
    judge: PreferenceOracle,
    pairs: Sequence[_Pair],
    dropped: Sequence[Dropped],
    verdicts: Sequence[PreferenceGroup | None],
) -> Judged:
    """One game from the verdicts on its pairs of different texts."""
    length_unit, lengths = _lengths(pairs)
    judgements, failed, remaining = [], [], iter(verdicts)
    for pair, (ours, theirs) in zip(pairs, lengths, strict=True):
        verdict = None if pair.same_text else next(remaining)
        win_probs = (0.5, 0.5) if pair.same_text else _win_probs(verdict, judge)
        if win_probs is None:
            reason = reason_of(verdict, JUDGE_FAILED) if verdict is not None else JUDGE_FAILED
            failed.append(Dropped(pair.policy.prompt.id, reason))
        else:
            judgements.append(Judgement(pair.policy.prompt.id, pair.sample, *win_probs, ours, theirs))
    num_truncated = sum(one is not None and (any(one.truncated) or one.prompt_truncated) for one in verdicts)
    return Judged(tuple(judgements), (*dropped, *failed), length_unit, _notes(pairs, length_unit, num_truncated))


def _by_id(groups: Sequence[ResponseGroup], side: str) -> dict[str, ResponseGroup]:
    found: dict[str, ResponseGroup] = {}
    for group in groups:
        if group.prompt.id in found:
            raise DataError(
                f"prompt {group.prompt.id} is there twice among the responses of the {side}",
                hint="give each prompt one id and put all its responses into one group",
            )
        found[group.prompt.id] = group
    return found


def _match(
    policy: Mapping[str, ResponseGroup], opponent: Mapping[str, ResponseGroup]
) -> tuple[list[_Pair], list[Dropped]]:
    pairs, dropped = [], []
    for prompt_id, ours in policy.items():
        theirs = opponent.get(prompt_id)
        if theirs is not None and theirs.prompt.messages != ours.prompt.messages:
            raise DataError(
                f"prompt {prompt_id}: the policy and the opponent were asked different things",
                hint="generate both sides from one file of prompts",
            )
        their_responses = theirs.responses if theirs is not None else ()
        for sample, (one, other) in enumerate(zip(ours.responses, their_responses, strict=False)):
            pairs.append(_Pair(ours, sample, one, other))
        surplus = len(ours.responses) - len(their_responses)
        dropped += [Dropped(prompt_id, NO_OPPONENT)] * surplus + [Dropped(prompt_id, NO_POLICY)] * -surplus
    for prompt_id, theirs in opponent.items():
        if prompt_id not in policy:
            dropped += [Dropped(prompt_id, NO_POLICY)] * len(theirs.responses)
    return pairs, dropped


def _lengths(pairs: Sequence[_Pair]) -> tuple[str, list[tuple[int, int]]]:
    if all(pair.ours.token_ids and pair.theirs.token_ids for pair in pairs):
        return "tokens", [(len(pair.ours.token_ids), len(pair.theirs.token_ids)) for pair in pairs]
    return "characters", [(len(pair.ours.text), len(pair.theirs.text)) for pair in pairs]


def _win_probs(judged: PreferenceGroup | None, judge: PreferenceOracle) -> tuple[float, float] | None:
    """P(policy wins) when shown first and when shown second; None where there is no verdict, or no finite logit."""
    if judged is None:
        return None
    logits = np.array([judged.pair_logits[0][1], judged.pair_logits[1][0]], dtype=np.float64) / judge.temperature
    if not np.isfinite(logits).all():
        logger.warning("judge gave prompt %s no verdict, or one that is not a finite number", judged.group.prompt.id)
        return None
    return float(expit(logits[0])), float(expit(-logits[1]))


def _notes(pairs: Sequence[_Pair], length_unit: str, num_truncated: int) -> tuple[str, ...]:
    notes = [f"Lengths are in {length_unit}."]
    same = sum(pair.same_text for pair in pairs)
    if same:
        notes.append(f"{same} of {len(pairs)} pairs have identical texts; they are exact ties that no judge saw.")
    if num_truncated:
        notes.append(f"The judge read only a part of a prompt or response in {num_truncated} of {len(pairs)} pairs.")
    cut = [sum(response.finish_reason == "length" for response in side) for side in _sides(pairs)]
    if any(cut):
        notes.append(f"Responses cut at the token limit: policy {cut[0]}, opponent {cut[1]} of {len(pairs)} each.")
    return tuple(notes)


def _sides(pairs: Sequence[_Pair]) -> tuple[list[Response], list[Response]]:
    return [pair.ours for pair in pairs], [pair.theirs for pair in pairs]
