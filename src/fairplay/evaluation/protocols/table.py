"""The protocols in which a judge compares two responses, on one screen.

Left out: MT-Bench, which grades single answers (`mt_bench`). Floor 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fairplay.errors import SettingsError
from fairplay.evaluation.protocols.official_reply import read_official
from fairplay.lookup import lookup
from fairplay.oracles.pair_judge import Read


@dataclass(frozen=True, slots=True)
class Protocol:
    """A pairwise protocol.

    Attributes:
        title: What it is called.
        template: Name of its template; empty where the user names one.
        orders: In which orders pairs may be shown, names in `orders.ORDERS`; the first is the default.
        opponent: Whom the policy is compared with where the protocol was published.
        source: Where it is written down.
        single: Whether every prompt has one response of each side.
        reader: Reads replies instead of the template's own reading; it needs log-probs.
        strong: Labels that count three times in the protocol's own score.
        style_control: Whether the win rate at equal style is reported.
        posts: Whether prompts are posts to be summarised, of which the judge sees the post alone.
    """

    title: str
    template: str
    orders: tuple[str, ...]
    opponent: str
    source: str
    single: bool = False
    reader: Read | None = None
    strong: tuple[str, ...] = ()
    style_control: bool = False
    posts: bool = False


_DPO = "Rafailov et al. 2023, arXiv:2305.18290, appendix C.2; both orders: Lu et al. 2024, arXiv:2406.10957"
_SFT = "the SFT policy (SamPO), or the chosen response (DPO)"

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "alpaca-eval": Protocol(
            "AlpacaEval 2",
            "alpaca-eval",
            ("official", "both"),
            "gpt4_1106_preview",
            "alpaca_eval 0.6.6, weighted_alpaca_eval_gpt4_turbo",
            single=True,
            reader=read_official,
        ),
        "hh": Protocol("HH single-turn dialogue", "hh", ("random", "both"), _SFT, _DPO),
        "tldr-s": Protocol("TL;DR summaries, prompt (S)", "tldr-s", ("random", "both"), _SFT, _DPO, posts=True),
        "tldr-c": Protocol("TL;DR summaries, prompt (C)", "tldr-c", ("random", "both"), _SFT, _DPO, posts=True),
        "arena-hard": Protocol(
            "in the form of Arena-Hard",
            "arena-hard",
            ("both",),
            "gpt-4-0314 (v0.1), o3-mini-2025-01-31 (v2.0)",
            "Li et al. 2024, arXiv:2406.11939; style control: LMSYS 2024",
            strong=("A>>B", "B>>A"),
            style_control=True,
        ),
        "pair": Protocol(
            "pairwise, one letter", "pair", ("both", "random"), "any", "fairplay's own", style_control=True
        ),
        "own": Protocol("pairwise, one's own template", "", ("both", "random"), "any", "the template's"),
    }
)


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        SettingsError: If there is none.
    """
    return lookup(PROTOCOLS, name, "protocol")


def check_orders(protocol: Protocol, orders: str) -> str:
    """The orders to show pairs in; the protocol's default where none are named.

    Raises:
        SettingsError: If the protocol has no such orders.
    """
    if orders and orders not in protocol.orders:
        raise SettingsError(
            f"orders: {protocol.title} has no orders `{orders}`", hint=f"known: {', '.join(protocol.orders)}"
        )
    return orders or protocol.orders[0]
