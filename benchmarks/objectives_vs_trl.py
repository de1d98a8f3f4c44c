"""Side by side with TRL: every loss that its trainers offer against the row of the catalogue, on random batches.

Compared are the value and the gradient in every policy token log-prob, in float64. Where a loss is another one, the
reason is named, and the difference must be there. Needs trl in the environment; exits 1 where a line is not what it
says.

    python benchmarks/objectives_vs_trl.py [--quick] [--json FILE]
"""

import argparse
import datetime
import json
import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import trl
from torch import Tensor

from fairplay.logps import PreferenceBatch, TokenLogps
from fairplay.objectives.evaluate import token_gradient
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import build_objective
from trl_losses import MOST_TOKENS, PAIRS, Loss, Pairs, cpo, dpo, kto, orpo, random_pairs

EXACT, FLOAT32 = 1e-9, 1e-5


@dataclass(frozen=True)
class Case:
    """One loss of TRL's beside one row of the catalogue.

    Attributes:
        row, parameters: The row.
        theirs: The loss as one calls it in TRL.
        compute: From pairs (the policy's grid carries the gradient) to TRL's loss.
        reason: Why they differ, or why they are equal to float32 only; empty if they are equal.
        differs: Whether they are two losses.
        factor: TRL's loss is this times ours.
        dtype: What both compute in.
    """

    row: str
    parameters: Mapping[str, object]
    theirs: str
    compute: Loss
    reason: str = ""
    differs: bool = False
    factor: float = 1.0
    dtype: torch.dtype = torch.float64

    @property
    def tolerance(self) -> float:
        """The largest difference of what is called equal."""
        return FLOAT32 if self.reason else EXACT


B, EPSILON, SIMPO = {"beta": 0.1}, {"beta": 0.1, "epsilon": 0.1}, {"beta": 2.0, "gamma": 1.0}
TOKEN = {"alpha": 1.0, "reduction": "token"}
CASES = (
    Case("dpo", B, "DPO sigmoid", dpo("sigmoid")),
    Case("hinge", B, "DPO hinge", dpo("hinge")),
    Case("ipo_mean", {"tau": 0.2}, "DPO ipo", dpo("ipo", beta=0.2)),
    Case("ipo_sum", {"tau": 0.2}, "DPO ipo", dpo("ipo", beta=0.2), "TRL averages over tokens", differs=True),
    Case("exo_pair", {"beta": 0.1, "epsilon": 1e-3}, "DPO exo_pair", dpo("exo_pair", label_smoothing=1e-3),
         "TRL makes epsilon a float32 tensor"),
    Case("nca_pair", B, "DPO nca_pair", dpo("nca_pair")),
    Case("robust", EPSILON, "DPO robust", dpo("robust", label_smoothing=0.1)),
    Case("bco_pair_no_delta", B, "DPO bco_pair", dpo("bco_pair")),
    Case("bco_pair", B, "DPO bco_pair", dpo("bco_pair"), "TRL has no running mean of rewards", differs=True),
    Case("sppo_hard", {"eta": 2.5}, "DPO sppo_hard", dpo("sppo_hard", beta=0.4)),
    Case("aot_paired", B, "DPO aot", dpo("aot")),
    Case("aot_unpaired", B, "DPO aot_unpaired", dpo("aot_unpaired")),
    Case("apo_zero", B, "DPO apo_zero", dpo("apo_zero")),
    Case("apo_down", B, "DPO apo_down", dpo("apo_down")),
    Case("discopop", {"beta": 0.1, "tau": 0.05}, "DPO discopop", dpo("discopop")),
    Case("dpo_norm", {"beta": 5.0}, "DPO sigmoid_norm", dpo("sigmoid_norm", beta=5.0)),
    Case("sft", {}, "DPO sft", dpo("sft")),
    Case("rpo_nll", B | TOKEN, "DPO [sigmoid, sft]", dpo("sigmoid", "sft")),
    Case("rpo_nll", B | {"alpha": 1.0}, "DPO [sigmoid, sft]", dpo("sigmoid", "sft"),
         "TRL's mean is over all tokens, the papers' over each sequence first", differs=True),
    Case("mpo", B | {"reduction": "token"}, "DPO [sigmoid, bco_pair, sft]",
         dpo("sigmoid", "bco_pair", "sft", loss_weights=[0.8, 0.2, 1.0]), "no running mean in bco_pair", differs=True),
    Case("cdpo", EPSILON, "DPO sigmoid, label_smoothing", dpo("sigmoid", label_smoothing=0.1),
         "TRL's sigmoid ignores label_smoothing", differs=True),
    Case("ld_dpo", B | {"alpha": 0.5}, "DPO sigmoid, ld_alpha", dpo("sigmoid", ld_alpha=0.5)),
    Case("wpo_unclamped", B, "DPO sigmoid, use_weighting", dpo("sigmoid", use_weighting=True)),
    Case("wpo", B, "DPO sigmoid, use_weighting", dpo("sigmoid", use_weighting=True),
         "TRL does not clamp the weight at 1", differs=True),
    Case("fdpo_forward_kl", B, "DPO sigmoid, forward_kl", dpo("sigmoid", f_divergence_type="forward_kl")),
    Case("fdpo_js", B, "DPO sigmoid, js_divergence", dpo("sigmoid", f_divergence_type="js_divergence")),
    Case("fdpo_alpha", B | {"alpha": 0.3}, "DPO sigmoid, alpha_divergence 0.7",
         dpo("sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7),
         "TRL has no float64 here (KeyError)", dtype=torch.float32),
    Case("kto", B | {"lam_d": 1.0, "lam_u": 1.5}, "KTO kto",
         kto("kto", beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)),
    Case("apo_zero", B, "KTO apo_zero_unpaired",
         kto("apo_zero_unpaired", beta=0.1, desirable_weight=1.0, undesirable_weight=1.0), factor=0.5),
    Case("cpo_no_nll", B, "CPO sigmoid, cpo_alpha 0", cpo("sigmoid")),
    Case("cpo", B | TOKEN, "CPO sigmoid", cpo("sigmoid", cpo_alpha=1.0)),
    Case("cpo", B | {"alpha": 1.0}, "CPO sigmoid", cpo("sigmoid", cpo_alpha=1.0),
         "TRL's mean is over all tokens", differs=True),
    Case("slic_hf", {"delta": 1.0, "lam": 0.0}, "CPO hinge, beta 1, cpo_alpha 0", cpo("hinge", beta=1.0)),
    Case("simpo", SIMPO, "CPO simpo, cpo_alpha 0", cpo("simpo", beta=2.0)),
    Case("simpo_sft", SIMPO | TOKEN, "CPO simpo", cpo("simpo", beta=2.0, cpo_alpha=1.0)),
    Case("simpo", SIMPO, "CPO simpo", cpo("simpo", beta=2.0, cpo_alpha=1.0),
         "cpo_alpha is 1 unless set to 0: a likelihood term", differs=True),
    Case("alphapo", SIMPO | {"alpha": 0.25}, "CPO alphapo", cpo("simpo", beta=2.0, alpha=0.25)),
    Case("orpo", {"lam": 0.1, "reduction": "token"}, "ORPO, prompt of one token", orpo(0.1, prompt=1),
         "TRL's odds ratio is in float32"),
    Case("orpo", {"lam": 0.1, "reduction": "token"}, "ORPO, prompt of three tokens", orpo(0.1, prompt=3),
         "TRL's likelihood covers the prompt", differs=True),
)  # fmt: skip


def preference_batch(pairs: Pairs) -> tuple[PreferenceBatch, Tensor]:
    """The same pairs as fairplay reads them, one pair an example, and where each token lies in the grid."""
    rows = torch.arange(2 * PAIRS).reshape(2, PAIRS).T.flatten()
    anchors, tokens = torch.arange(2 * PAIRS), pairs.mask[rows].nonzero()
    place = rows[tokens[:, 0]] * MOST_TOKENS + tokens[:, 1]
    fill = torch.zeros(2 * PAIRS, dtype=pairs.policy.dtype)
    logps = TokenLogps(
        policy=torch.cat([pairs.policy.flatten()[place], pairs.kl_policy]),
        reference=torch.cat([pairs.reference.flatten()[place], pairs.kl_reference]),
        response_index=torch.cat([tokens[:, 0], anchors + 2 * PAIRS]),
        position=torch.cat([tokens[:, 1], torch.zeros_like(anchors)]),
        num_responses=4 * PAIRS,
        statistics={"log_sum_sq": torch.cat([pairs.log_sum_sq.flatten()[place], fill])},
    )
    batch = PreferenceBatch(
        logps=logps,
        example_index=torch.cat([torch.arange(2 * PAIRS) // 2, torch.full((2 * PAIRS,), PAIRS - 1)]),
        num_examples=PAIRS,
        pairs=torch.arange(2 * PAIRS).reshape(PAIRS, 2),
        example_keys=torch.arange(PAIRS),
        columns={"anchors": (torch.arange(4 * PAIRS) >= 2 * PAIRS).to(torch.float64)},
    )
    return batch, place


def compare(case: Case, seed: int) -> tuple[float, float]:
    """The differences of value and gradient, the largest of all tokens, in units of the value where it is above 1."""
    pairs = random_pairs(seed, case.dtype)
    batch, place = preference_batch(pairs)
    gradient, output = token_gradient(build_objective(case.row, case.parameters), batch, batch_totals(batch))
    leaf = pairs.policy.clone().requires_grad_()
    theirs = case.compute(replace(pairs, policy=leaf))
    (their_gradient,) = torch.autograd.grad(theirs, leaf)
    scale = max(1.0, abs(float(output.loss)))
    value = abs(float(theirs) - case.factor * float(output.loss)) / scale
    ours = case.factor * gradient[: len(place)]
    return value, float((their_gradient.flatten()[place] - ours).abs().max()) / scale


def verdict(case: Case, value: float, gradient: float) -> str:
    """In one word; in capitals where it is not what the case says."""
    if not math.isfinite(value + gradient):
        return "NOT FINITE"
    worst = max(value, gradient)
    if case.differs:
        return "differs" if worst > 1e-4 else "SHOULD DIFFER"
    return ("equal to float32" if case.reason else "equal") if worst <= case.tolerance else "DIFFERS"


def main() -> int:
    """Compare all, print the table; the exit code says whether every line is what it says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 batches instead of 50")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    batches, results = (3 if options.quick else 50), []
    for case in CASES:
        found = [compare(case, seed) for seed in range(batches)]
        value, gradient = (max(part) for part in zip(*found, strict=True))
        told = verdict(case, value, gradient)
        results.append({"row": case.row, "parameters": dict(case.parameters), "trl": case.theirs, "value": value,
                        "gradient": gradient, "verdict": told, "reason": case.reason})  # fmt: skip
    head = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "trl": trl.__version__,
            "torch": torch.__version__, "batches": batches, "pairs": PAIRS}  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in head.items()), end="\n\n")
    print("| row | TRL | value | gradient | |\n| --- | --- | --- | --- | --- |")
    for r in results:
        told = f"{r['verdict']}: {r['reason']}" if r["reason"] else r["verdict"]
        print(f"| `{r['row']}` | {r['trl']} | {r['value']:.0e} | {r['gradient']:.0e} | {told} |")
    if options.json:
        options.json.write_text(json.dumps(head | {"results": results}, indent=1) + "\n")
    return int(any(r["verdict"].isupper() for r in results))


if __name__ == "__main__":
    sys.exit(main())
