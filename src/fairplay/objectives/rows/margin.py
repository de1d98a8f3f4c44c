"""Pairwise objectives with a reference: other losses of DPO's margin, other links, other offsets.

Left out: what is done about length (`length.py`). Floor 2.
"""

from fairplay.objectives.columns import LogScoreGap, ScorePreference, Shortfall
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.links import Power, chi_squared_and_kl, forward_kl, jensen_shannon
from fairplay.objectives.losses import (
    ClippedLogistic,
    KlFromScores,
    LogRatioModulated,
    ReverseKlToHardLabel,
    exponential,
    hinge,
    logistic,
    savage,
    square,
    truncated_quadratic,
)
from fairplay.objectives.objective import PAIR, Objective, Term, with_soft_label
from fairplay.objectives.row import NOISE, NON_NEGATIVE, PROBABILITY, Parameter, Row
from fairplay.objectives.rows.core import DPO_BETA, NLL_REDUCTION

GPO = "Tang et al. 2024, arXiv:2402.05749"
GPO_BETA = Parameter("beta", 0.1, "swept in the paper")
F_DPO = "Wang et al. 2023, arXiv:2309.16240"

ROWS = (
    Row(
        "cdpo",
        "Conservative DPO",
        "Mitchell 2023, a note on DPO with noisy preferences, eq. 3",
        "(1 - epsilon) -log sigmoid(z) + epsilon -log sigmoid(-z), z = beta (u_w - u_l)",
        (DPO_BETA, Parameter("epsilon", 0.1, "0.1 (paper), 0.2 (HALOs)", NOISE)),
        lambda beta, epsilon: Objective(beta=beta, terms=with_soft_label(Term(PAIR, logistic), 1 - epsilon, epsilon)),
        elsewhere="TRL's `sigmoid` ignores label_smoothing and computes plain DPO; LLaMA-Factory, OpenRLHF, torchtune "
        "and ms-swift do as here.",
    ),
    Row(
        "robust",
        "Robust DPO",
        "Chowdhury et al. 2024, arXiv:2403.00409",
        "[(1 - epsilon) -log sigmoid(z) - epsilon -log sigmoid(-z)] / (1 - 2 epsilon), z = beta (u_w - u_l)",
        (DPO_BETA, Parameter("epsilon", 0.1, "0.1; below 0.5", NOISE)),
        lambda beta, epsilon: Objective(
            beta=beta,
            terms=with_soft_label(
                Term(PAIR, logistic), (1 - epsilon) / (1 - 2 * epsilon), -epsilon / (1 - 2 * epsilon)
            ),
        ),
        remark="Unbiased under random label flips.",
        elsewhere="TRL's `robust` is the same (its label_smoothing is epsilon); Online-RLHF's code omits the division.",
    ),
    Row(
        "hinge",
        "Hinge loss (RSO, GPO)",
        "Liu et al. 2023, arXiv:2309.06657",
        "max(0, 1 - beta (u_w - u_l))",
        (Parameter("beta", 0.05, "0.05 (RSO)"),),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, hinge),)),
        elsewhere="TRL's `hinge` is the same.",
    ),
    Row(
        "gpo_squared",
        "GPO, squared",
        GPO,
        "(1 - beta (u_w - u_l))^2",
        (GPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, square, offset=1.0),)),
        remark="beta^2 times `ipo_sum` with beta = 2 tau.",
    ),
    Row(
        "gpo_exponential",
        "GPO, exponential",
        GPO,
        "e^-z, z = beta (u_w - u_l)",
        (GPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, exponential),)),
    ),
    Row(
        "gpo_trunc_quadratic",
        "GPO, truncated quadratic",
        GPO,
        "max(0, 1 - beta (u_w - u_l))^2",
        (GPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, truncated_quadratic),)),
    ),
    Row(
        "gpo_savage",
        "GPO, Savage",
        GPO,
        "1 / (1 + e^z)^2, z = beta (u_w - u_l)",
        (GPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, savage),)),
        remark="Not convex.",
    ),
    Row(
        "discopop",
        "DiscoPOP (log-ratio modulated loss)",
        "Lu et al. 2024, arXiv:2406.08414",
        "(1 - g) -log sigmoid(z) + g e^-z, g = sigmoid(z / tau), z = beta (u_w - u_l)",
        (Parameter("beta", 0.05, "0.05 (paper)"), Parameter("tau", 0.05, "0.05 (paper)")),
        lambda beta, tau: Objective(beta=beta, terms=(Term(PAIR, LogRatioModulated(tau)),)),
        remark="Found by search, and not monotone: at its published tau the slope at z = 0 has the wrong sign, so the "
        "first step lowers the margin of a pair on which policy and reference agree.",
        elsewhere="TRL's `discopop` is the same.",
        raises_chosen=False,
    ),
    Row(
        "exo_pair",
        "EXO on a pair",
        "Ji et al. 2024, arXiv:2402.00856, eq. 16",
        "KL(Bernoulli(sigmoid(z)) || Bernoulli(1 - epsilon)), z = beta (u_w - u_l)",
        (Parameter("beta", 0.5, "0.5 (its scripts)"), Parameter("epsilon", 1e-3, "0.001 (TRL)", PROBABILITY)),
        lambda beta, epsilon: Objective(beta=beta, terms=(Term(PAIR, ReverseKlToHardLabel(epsilon)),)),
        remark="The reverse KL is infinite for epsilon = 0.",
        elsewhere="TRL's `exo_pair` builds epsilon in float32 and refuses 0, for which ms-swift takes 0.001. The "
        "authors' code has target logits 0 and -10 instead.",
    ),
    Row(
        "infonca_pair",
        "InfoNCA on a pair",
        "Chen et al. 2024, arXiv:2402.05369",
        "p -log sigmoid(z) + (1 - p) -log sigmoid(-z), p = sigmoid((score_w - score_l) / alpha), z = beta (u_w - u_l)",
        (Parameter("beta", 0.01, "0.01 (paper)"), Parameter("alpha", 0.01, "0.01 (paper)")),
        lambda beta, alpha: Objective(
            beta=beta,
            terms=with_soft_label(Term(PAIR, logistic), ScorePreference(1 / alpha), ScorePreference(-1 / alpha)),
        ),
        remark="With alpha towards 0 it is DPO.",
    ),
    Row(
        "nv_rpo",
        "Reward-aware preference optimisation",
        "Nvidia 2024 (Nemotron-4), arXiv:2406.11704",
        "KL(Bernoulli(sigmoid(eta (score_w - score_l))) || Bernoulli(sigmoid(z))), z = beta (u_w - u_l)",
        (DPO_BETA, Parameter("eta", 1.0, "depends on the scale of the scores")),
        lambda beta, eta: Objective(beta=beta, terms=(Term(PAIR, KlFromScores(eta)),)),
        remark="One of three methods called RPO; see `rpo_nll`.",
    ),
    Row(
        "odpo",
        "DPO with an offset",
        "Amini et al. 2024, arXiv:2402.10571",
        "-log sigmoid(beta (u_w - u_l) - alpha log(score_w - score_l))",
        (DPO_BETA, Parameter("alpha", 1.0, "1 (paper)", NON_NEGATIVE)),
        lambda beta, alpha: Objective(beta=beta, terms=(Term(PAIR, logistic, offset=LogScoreGap(alpha)),)),
    ),
    Row(
        "dpop",
        "DPO-Positive (Smaug)",
        "Pal et al. 2024, arXiv:2402.13228",
        "-log sigmoid(beta (u_w - u_l - lam max(0, -u_w)))",
        (Parameter("beta", 0.3, "0.3 (paper)"), Parameter("lam", 50.0, "50 (paper); 5 to 500", NON_NEGATIVE)),
        lambda beta, lam: Objective(beta=beta, terms=(Term(PAIR, logistic, offset=Shortfall(beta * lam)),)),
    ),
    Row(
        "rpo_nll",
        "DPO with a likelihood term (Iterative RPO, Regularised PO, Llama 3)",
        "Pang et al. 2024, arXiv:2404.19733; Liu et al. 2024, arXiv:2405.16436",
        "-log sigmoid(beta (u_w - u_l)) + alpha NLL_w",
        (
            DPO_BETA,
            Parameter("alpha", 1.0, "1 (2404.19733), 0.005 with beta 0.01 (2405.16436), 0.2 (Llama 3)", NON_NEGATIVE),
            NLL_REDUCTION,
        ),
        lambda beta, alpha, reduction: Objective(
            beta=beta, terms=(Term(PAIR, logistic),), likelihood=Likelihood(alpha, reduction)
        ),
        elsewhere="TRL's `[sigmoid, sft]` averages the likelihood over the micro-batch's tokens; that is `reduction: "
        "token`. An early TRL multiplied the DPO term by alpha.",
    ),
    Row(
        "fdpo_forward_kl",
        "f-DPO, forward KL",
        F_DPO,
        "-log sigmoid(beta (f'_w - f'_l)), f' = 1 - e^-u",
        (DPO_BETA,),
        lambda beta: Objective(beta=beta, link=forward_kl, terms=(Term(PAIR, logistic),)),
        elsewhere="TRL's f_divergence_type `forward_kl` is the same.",
    ),
    Row(
        "fdpo_js",
        "f-DPO, Jensen-Shannon",
        F_DPO,
        "-log sigmoid(beta (f'_w - f'_l)), f' = log 2 + log sigmoid(u)",
        (DPO_BETA,),
        lambda beta: Objective(beta=beta, link=jensen_shannon, terms=(Term(PAIR, logistic),)),
        elsewhere="TRL's f_divergence_type `js_divergence` is the same.",
    ),
    Row(
        "fdpo_alpha",
        "f-DPO, alpha-divergence",
        F_DPO,
        "-log sigmoid(beta (f'_w - f'_l)), f' = (1 - e^(-alpha u)) / alpha",
        (DPO_BETA, Parameter("alpha", 0.5, "0.3 to 0.7", PROBABILITY)),
        lambda beta, alpha: Objective(beta=beta, link=Power(alpha), terms=(Term(PAIR, logistic),)),
        elsewhere="TRL's f_alpha_divergence_coef is 1 - alpha; it computes in float32 and fails on float64.",
    ),
    Row(
        "chi_po",
        "chi-PO",
        "Huang et al. 2024, arXiv:2407.13399",
        "-log sigmoid(clip(beta (phi_w - phi_l), -limit, limit)), phi = e^u + u",
        (DPO_BETA, Parameter("limit", 10.0, "twice the largest reward, so a matter of the rewards' scale")),
        lambda beta, limit: Objective(beta=beta, link=chi_squared_and_kl, terms=(Term(PAIR, ClippedLogistic(limit)),)),
    ),
)
