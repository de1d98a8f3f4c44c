"""Relatives of SPPO: other targets for the log-ratios, and an anchor beside the previous iterate.

Left out: SPPO itself (`core.py`); reference schedules, which are no losses. Floor 2. The reference is the previous
iterate pi_t; mu is a fixed anchor, known by the statistic `anchor_logratios`, log mu - log pi_t of each token.
"""

from fairplay.objectives.columns import ExactTarget, Plus, ScoreTarget, StatisticGap
from fairplay.objectives.comparisons import Each
from fairplay.objectives.losses import square
from fairplay.objectives.objective import CHOSEN, PAIR, Objective, Term
from fairplay.objectives.row import NON_NEGATIVE, Parameter, Row
from fairplay.objectives.rows.core import SPPO_ETA

ROWS = (
    Row(
        "sppo_log_z",
        "SPPO with an estimated normaliser",
        "Wu et al. 2024, arXiv:2405.00675, before log Z is replaced by eta / 2",
        "mean over i of (u_i - eta P_i + log mean_j e^(eta P_j))^2",
        (SPPO_ETA,),
        lambda eta: Objective(comparison=Each(), terms=(Term(CHOSEN, square, offset=ExactTarget(eta)),)),
        remark="Targets near 0 for the best responses instead of hundreds of nats, where eta is large.",
    ),
    Row(
        "inpo",
        "INPO (COMAL's inner loop)",
        "Zhang et al. 2024, arXiv:2407.00617",
        "(u_w - u_l - (tau / eta) (m_w - m_l) - 1 / (2 eta))^2, m = log mu - log pi_t of the response",
        (
            Parameter("eta", 0.002, "0.002 (COMAL's scripts)"),
            Parameter("ratio", 1 / 3, "1/3 (COMAL's scripts): tau / eta", NON_NEGATIVE),
        ),
        lambda eta, ratio: Objective(
            terms=(Term(PAIR, square, offset=Plus(1 / (2 * eta), StatisticGap("anchor_logratios", -ratio))),)
        ),
    ),
    Row(
        "general_preference",
        "GPO (general preference optimisation)",
        "Zhang et al. 2024, arXiv:2410.02197",
        "mean over i of (u_i - eta score_i)^2, score = mean logit of beating the policy's responses",
        (Parameter("eta", 1000.0, "as SPPO's, over unbounded logits"),),
        lambda eta: Objective(comparison=Each(), terms=(Term(CHOSEN, square, offset=ScoreTarget(eta)),)),
        remark="Not the GPO family of losses (`gpo_squared`, ...). Logits have mean 0, so no eta / 2 is taken off.",
    ),
)
