"""Objectives over all scored responses to a prompt.

Left out: pairs (the other files). Floor 2. r_i = beta u_i; p = softmax(score / alpha) over the prompt's responses.
"""

from fairplay.objectives.columns import Alone, GroupShare, ScoreSoftmax
from fairplay.objectives.comparisons import Best, ByScore, Listed, Ranked
from fairplay.objectives.group_losses import KlToScores, negative_log_softmax, plackett_luce
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.losses import linear, logistic, ranking
from fairplay.objectives.objective import CHOSEN, NOT_CHOSEN, PAIR, Objective, Term
from fairplay.objectives.row import NON_NEGATIVE, Parameter, Row
from fairplay.objectives.rows.core import DPO_BETA
from fairplay.objectives.tokens import Mean

NCA = "Chen et al. 2024, arXiv:2402.05369"
NCA_BETA = Parameter("beta", 0.01, "0.01 (paper)")
ALPHA = Parameter("alpha", 0.01, "0.01 (paper); depends on the scale of the scores")

ROWS = (
    Row(
        "rrhf",
        "RRHF",
        "Yuan et al. 2023, arXiv:2304.05302",
        "sum over score_i > score_j of max(0, A_j - A_i) - lam A of the response with the highest score",
        (Parameter("lam", 1.0, "1 (its code): the weight of the likelihood", NON_NEGATIVE),),
        lambda lam: Objective(
            comparison=Ranked(),
            tokens=Mean(),
            reference=False,
            terms=(Term(PAIR, ranking), Term(CHOSEN, linear, coefficient=Alone(lam))),
        ),
        remark="`rrhf_rank` and `rrhf_sft` together. A tie for the highest score goes to the first.",
        elsewhere="SimPO's table has its form for one pair, with a likelihood that is a sum over tokens: `rrhf_pair`.",
    ),
    Row(
        "rrhf_rank",
        "RRHF's ranking term",
        "Yuan et al. 2023, arXiv:2304.05302",
        "sum over score_i > score_j of max(0, A_j - A_i)",
        (),
        lambda: Objective(comparison=ByScore(), tokens=Mean(), reference=False, terms=(Term(PAIR, ranking),)),
    ),
    Row(
        "rrhf_sft",
        "RRHF's likelihood term",
        "Yuan et al. 2023, arXiv:2304.05302",
        "-A of the response with the highest score",
        (),
        lambda: Objective(comparison=Best(), reference=False, likelihood=Likelihood(1.0, "sequence")),
    ),
    Row(
        "lipo_pairwise_logistic",
        "LiPO, pairwise logistic",
        "Liu et al. 2024, arXiv:2402.01878",
        "sum over score_i > score_j of -log sigmoid(r_i - r_j)",
        (DPO_BETA,),
        lambda beta: Objective(comparison=ByScore(), beta=beta, terms=(Term(PAIR, logistic),)),
    ),
    Row(
        "infonca_reward",
        "InfoNCA",
        NCA,
        "-sum_i p_i log softmax(r)_i",
        (NCA_BETA, ALPHA),
        lambda beta, alpha: Objective(
            comparison=Listed(),
            beta=beta,
            terms=(Term(CHOSEN, negative_log_softmax, coefficient=ScoreSoftmax(alpha)),),
        ),
    ),
    Row(
        "nca_reward",
        "NCA",
        NCA,
        "mean_i -log sigmoid(-r_i) + sum_i p_i -log sigmoid(r_i)",
        (NCA_BETA, ALPHA),
        lambda beta, alpha: Objective(
            comparison=Listed(),
            beta=beta,
            terms=(
                Term(NOT_CHOSEN, logistic, coefficient=GroupShare()),
                Term(CHOSEN, logistic, coefficient=ScoreSoftmax(alpha)),
            ),
        ),
    ),
    Row(
        "exo_reward",
        "EXO",
        "Ji et al. 2024, arXiv:2402.00856",
        "KL(softmax(r) || p)",
        (Parameter("beta", 0.5, "0.5 (its scripts)"), Parameter("alpha", 0.5, "0.5 (its scripts call it beta_r)")),
        lambda beta, alpha: Objective(comparison=Listed(), beta=beta, terms=(Term(CHOSEN, KlToScores(alpha)),)),
    ),
    Row(
        "plackett_luce_dpo",
        "DPO under Plackett-Luce",
        "Rafailov et al. 2023, arXiv:2305.18290, appendix A.3",
        "-sum_i [r_i - log sum over score_j <= score_i of e^(r_j)]",
        (DPO_BETA,),
        lambda beta: Objective(comparison=Listed(), beta=beta, terms=(Term(CHOSEN, plackett_luce),)),
    ),
)
