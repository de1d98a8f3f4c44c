"""What the honesty gates say, as banners: the judge is the oracle, a canary won, prompts were trained on, marked text.

Left out: what the run's numbers themselves warn of (`banners.py`). Floor 5; pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fairplay.reports.contents import PolicyMarks, ReportContents
from fairplay.reports.wording import percent
from fairplay.wording import plural

MAX_SEEN = 0.05
"""Share of held-out prompts that were trained on, or nearly, above which it is an alarm; any share is a warning."""
MAX_MARKED = 0.01
"""Share of responses with a mark for the judge above which it is said."""
MAX_ONE_TEXT = 0.10
MIN_RESPONSES = 20
"""Responses below which the share of one text means nothing."""


@dataclass(frozen=True, slots=True)
class Banner:
    """One warning: a title of a few words, a sentence with the numbers behind it, and whether it voids the result."""

    title: str
    text: str
    is_alarm: bool = False


def gate_banners(contents: ReportContents) -> Iterator[Banner]:
    """What the gates found, the alarms first."""
    gates = contents.gates
    if gates.oracle_is_judge or contents.judge == contents.oracle:
        yield Banner(
            "The oracle is its own judge",
            f"{contents.judge} made the training’s preferences and also judges the result, so the win rates measure "
            "how well the policy learned its taste, not whether it became better.",
            is_alarm=True,
        )
    for canary in gates.canaries:
        if canary.alarm:
            yield Banner("A canary sings", canary.alarm + " No win rate by this judge can be relied on.", is_alarm=True)
    yield from _seen_prompts(contents)
    if gates.marks and contents.iterations:
        yield from _marks(gates.marks[0], gates.marks[-1])


def _seen_prompts(contents: ReportContents) -> Iterator[Banner]:
    for seen in contents.gates.seen_prompts:
        number = seen.num_equal + seen.num_contained
        if number:
            copies = f"{seen.num_contained:,}"
            of_all = f" of {plural(seen.num_held_out, 'held-out prompt')}"
            equal = f"{seen.num_equal:,}{of_all} are training prompts but for case and punctuation"
            near = " near copies of training prompts, most of whose runs of eight words occur there"
            yield Banner(
                "Held-out prompts were trained on" if seen.num_equal else "Held-out prompts are close to training ones",
                (f"{equal}, and {copies} are{near}" if seen.num_equal else f"{copies}{of_all} are{near}; none is equal")
                + ": on them the win rate measures memory, too.",
                is_alarm=number > MAX_SEEN * seen.num_held_out,
            )


def _marks(start: PolicyMarks, last: PolicyMarks) -> Iterator[Banner]:
    found = [(name, count) for name, _, count, _ in last.marks if count > MAX_MARKED * last.num_responses]
    if found:
        told = ", ".join(f"{name} {count:,}" for name, count in found)
        yield Banner(
            "Responses carry marks for the judge",
            f"Of {plural(last.num_responses, 'held-out response')} of {last.policy}: {told}. Read some of them below "
            "before believing the win rate.",
        )
    share = last.most_frequent_share
    if last.num_responses >= MIN_RESPONSES and share > max(MAX_ONE_TEXT, 2 * start.most_frequent_share):
        yield Banner(
            "One response to many prompts",
            f"{percent(share)} of the held-out responses of {last.policy} are the same text ("
            f"{percent(start.most_frequent_share)} for {start.policy}): is it an answer, or aimed at the judge?",
        )
