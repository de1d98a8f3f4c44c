"""Objectives that reward the policy's own log-probs, most of them with a likelihood term.

Left out: SimPO (`core.py`). Floor 2.
"""

from fairplay.objectives.anchors import StandardisedMargin
from fairplay.objectives.columns import Anchored
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.links import Power, log_odds, probability
from fairplay.objectives.losses import hinge, linear, logistic, ranking
from fairplay.objectives.objective import PAIR, Objective, Term
from fairplay.objectives.row import NON_NEGATIVE, Parameter, Row
from fairplay.objectives.rows.core import DPO_BETA, NLL_REDUCTION, SIMPO_BETA
from fairplay.objectives.tokens import Mean

ORPO_LAMBDA = Parameter("lam", 0.1, "0.1 (paper; TRL calls it beta); 0.1 to 2", NON_NEGATIVE)

ROWS = (
    Row(
        "slic_hf",
        "SLiC-HF",
        "Zhao et al. 2023, arXiv:2305.10425",
        "max(0, delta - S_w + S_l) - lam S_w",
        (Parameter("delta", 1.0, "0.1 to 2", NON_NEGATIVE), Parameter("lam", 0.1, "0.1 to 10", NON_NEGATIVE)),
        lambda delta, lam: Objective(
            reference=False, terms=(Term(PAIR, hinge, offset=delta - 1),), likelihood=Likelihood(lam, "sum")
        ),
        remark="The likelihood term is a sum over tokens: its coefficient does not carry over from means.",
        elsewhere="HALOs adds the hinge of each pair to a matrix of token log-probs, which fails on most batches. "
        "TRL's CPOTrainer has a `hinge` with a beta, and its likelihood is a mean.",
    ),
    Row(
        "rrhf_pair",
        "RRHF on a pair",
        "Yuan et al. 2023, arXiv:2304.05302",
        "max(0, A_l - A_w) - lam S_w",
        (Parameter("lam", 1.0, "1 (its code); 0.1 to 10", NON_NEGATIVE),),
        lambda lam: Objective(
            tokens=Mean(), reference=False, terms=(Term(PAIR, ranking),), likelihood=Likelihood(lam, "sum")
        ),
    ),
    Row(
        "cpo",
        "CPO",
        "Xu et al. 2024, arXiv:2401.08417",
        "-log sigmoid(beta (S_w - S_l)) + alpha NLL_w",
        (DPO_BETA, Parameter("alpha", 1.0, "1 (paper)", NON_NEGATIVE), NLL_REDUCTION),
        lambda beta, alpha, reduction: Objective(
            reference=False, beta=beta, terms=(Term(PAIR, logistic),), likelihood=Likelihood(alpha, reduction)
        ),
        elsewhere="TRL's CPOTrainer averages the likelihood over the micro-batch's tokens; that is `reduction: token`.",
    ),
    Row(
        "cpo_no_nll",
        "CPO's preference term",
        "Xu et al. 2024, arXiv:2401.08417",
        "-log sigmoid(beta (S_w - S_l))",
        (DPO_BETA,),
        lambda beta: Objective(reference=False, beta=beta, terms=(Term(PAIR, logistic),)),
    ),
    Row(
        "orpo",
        "ORPO",
        "Hong et al. 2024, arXiv:2403.07691",
        "NLL_w + lam -log sigmoid(o_w - o_l), o = A - log(1 - e^A)",
        (ORPO_LAMBDA, NLL_REDUCTION),
        lambda lam, reduction: Objective(
            tokens=Mean(),
            reference=False,
            link=log_odds,
            terms=(Term(PAIR, logistic, coefficient=lam),),
            likelihood=Likelihood(1.0, reduction),
        ),
        remark="The likelihood is of the response only.",
        elsewhere="TRL's and the authors' code include the prompt in it. Liger, LLaMA-Factory and axolotl compute "
        "log(1 - e^A) so that it is infinite for a response that is all but certain; TRL's odds ratio is in float32.",
    ),
    Row(
        "orpo_or_term",
        "ORPO's odds-ratio term",
        "Hong et al. 2024, arXiv:2403.07691",
        "lam -log sigmoid(o_w - o_l), o = A - log(1 - e^A)",
        (ORPO_LAMBDA,),
        lambda lam: Objective(
            tokens=Mean(), reference=False, link=log_odds, terms=(Term(PAIR, logistic, coefficient=lam),)
        ),
        elsewhere="TRL computes it in float32.",
    ),
    Row(
        "alphapo",
        "AlphaPO",
        "Gupta et al. 2025, arXiv:2501.03884",
        "-log sigmoid(beta (r_w - r_l) - gamma), r = (1 - e^(-alpha A)) / alpha",
        (
            SIMPO_BETA,
            Parameter("gamma", 0.25, "0.1 of beta for Mistral-Instruct", NON_NEGATIVE),
            Parameter("alpha", 0.25, "0.25 for Mistral-Instruct"),
        ),
        lambda beta, gamma, alpha: Objective(
            tokens=Mean(),
            reference=False,
            beta=beta,
            link=Power(alpha),
            terms=(Term(PAIR, logistic, offset=gamma),),
        ),
        remark="SimPO with the link of f-DPO's alpha-divergence. Not AlphaDPO, which is `alpha_dpo`.",
        elsewhere="TRL's CPOTrainer with `alphapo` is the same; its recipe sets gamma to 0.1 with beta 2.5, which is "
        "probably meant as gamma / beta.",
    ),
    Row(
        "alpha_dpo",
        "AlphaDPO",
        "Wu et al. 2024, arXiv:2410.10148",
        "-log sigmoid(beta (A_w - A_l) - sg[gamma + alpha zscore(v_w - v_l)]), the z-score over the step",
        (
            SIMPO_BETA,
            Parameter("gamma", 1.5, "0.6 of beta (its recipe for Llama-3-Instruct)", NON_NEGATIVE),
            Parameter("alpha", 0.2, "0.2 (the same recipe)", NON_NEGATIVE),
        ),
        lambda beta, gamma, alpha: Objective(
            tokens=Mean(),
            reference=False,
            beta=beta,
            anchor=StandardisedMargin(gamma, alpha),
            terms=(Term(PAIR, logistic, offset=Anchored()),),
        ),
        remark="Its reward has no reference, its target margin has.",
    ),
    Row(
        "simper",
        "SimPER",
        "Xiao et al. 2025, arXiv:2502.00883",
        "-e^(A_w) + e^(A_l)",
        (),
        lambda: Objective(tokens=Mean(), reference=False, link=probability, terms=(Term(PAIR, linear),)),
    ),
)
