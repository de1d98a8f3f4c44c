"""What a result of `fairplay judge` tells of its protocol, its judge and its server.

Left out: figures (`judge_files.py`, `grade_files.py`). Floor 7; no torch.
"""

from dataclasses import asdict
from typing import Any

from fairplay.evaluation.protocols.table import find_protocol
from fairplay.oracles.judge_settings import JudgeSettings
from fairplay.oracles.judge_verdicts import READER_VERSION
from fairplay.oracles.pair_judge import PairJudge
from fairplay.servers.outcomes import Accounting


def protocol_told(name: str) -> dict[str, str]:
    """A protocol, and where it is written down."""
    protocol = find_protocol(name)
    told = {"title": protocol.title, "source": protocol.source, "published_opponent": protocol.opponent}
    return {"name": name, **told}


def asked_document(judge: PairJudge, settings: JudgeSettings, *, orders: str, seed: int) -> dict[str, Any]:
    """Everything that decides what a judge was asked."""
    return {
        "model": settings.server.model,
        "base_url": settings.server.base_url,
        "identity": settings.server.identity,
        "extra_body": settings.server.extra_body,
        "template": settings.template,
        "template_sha256": judge.template.sha256,
        "template_source": judge.template.source,
        "log_probs": judge.log_probs,
        "min_mass": settings.min_mass,
        "temperature": judge.template.temperature,
        "max_tokens": judge.template.max_tokens,
        "orders": orders,
        "seed": seed,
        "reader_version": READER_VERSION,
    }


def account_document(accounting: Accounting) -> dict[str, Any]:
    """The server's side of the account, and a warning where it answered under several names."""
    models = len(accounting.models)
    return {**asdict(accounting), "note": "the server answered under several names" if models > 1 else ""}


def judge_name(protocol: str, judge: PairJudge) -> str:
    """Protocol, model, and the beginning of the template's hash."""
    return f"{protocol}:{judge.client.settings.model}#{judge.template.sha256[:12]}"
