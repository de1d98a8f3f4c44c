"""Relatives of SPPO: other targets for the log-ratios, and an anchor beside the previous iterate.

Left out: SPPO itself (`core.py`); reference schedules, which are no losses. Floor 2. The reference is the previous
iterate pi_t; mu is a fixed anchor model, known by the statistic `anchor_logratios`, log mu - log pi_t of each token.
"""

from fairplay.objectives.columns import ExactTarget, Plus, ScoreTarget, StatisticGap, StatisticTotal, WinRateTarget
from fairplay.objectives.comparisons import Each
from fairplay.objectives.losses import ClippedExponential, square
from fairplay.objectives.objective import CHOSEN, PAIR, Objective, Term
from fairplay.objectives.row import NON_NEGATIVE, Parameter, Row
from fairplay.objectives.rows.core import SPPO_ETA

ANCHOR_MODEL = "The setting `anchor` names the model mu; by default it is the one that a run starts from."

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
        remark=f"{ANCHOR_MODEL} Where it is the reference, as in the first iteration, this is `ipo_sum` with "
        "tau = eta. COMAL makes the current policy the anchor after some iterations: start a run from it.",
    ),
    Row(
        "rspo",
        "RSPO",
        "Tang et al. 2025, arXiv:2503.00030, as estimated in xiaohangt/RSPO",
        "mean over i of (u_i - eta (P_i - 1/2))^2 + lam_r l_i^2 + lam_f e^min(-l_i, 10), l = u - m = log pi - log mu",
        (
            SPPO_ETA,
            Parameter("lam_f", 0.2, "0.2: 0.1 in its scripts, which sum over a pair; for forward KL", NON_NEGATIVE),
            Parameter("lam_r", 1.0, "1: 0.5 in its scripts, which sum over a pair; for reverse KL", NON_NEGATIVE),
        ),
        lambda eta, lam_f, lam_r: Objective(
            comparison=Each(),
            terms=(
                Term(CHOSEN, square, offset=WinRateTarget(eta)),
                Term(CHOSEN, square, coefficient=lam_r, offset=StatisticTotal("anchor_logratios")),
                Term(CHOSEN, ClippedExponential(10.0), coefficient=lam_f, offset=StatisticTotal("anchor_logratios")),
            ),
        ),
        remark=f"{ANCHOR_MODEL} Over responses of pi_t, and where pi = pi_t, the gradients of the two "
        "added terms are those of 2 KL(pi || mu) and of KL(mu || pi). lam_r = 0 leaves the forward KL, which shortens "
        "responses in the paper; lam_f = 0 leaves the reverse KL.",
        elsewhere="The authors' code learns from the best and the worst response only, and clips at 10 as here.",
    ),
    Row(
        "nash_md",
        "Nash-MD's update as a regression",
        "Munos et al. 2023, arXiv:2312.00886, its tabular step",
        "mean over i of (u_i - eta (P_i - 1/2) - eta tau m_i)^2, m = log mu - log pi_t of the response",
        (SPPO_ETA, Parameter("tau", 0.0001, "tau eta is the share of the anchor; 0.1 here", NON_NEGATIVE)),
        lambda eta, tau: Objective(
            comparison=Each(),
            terms=(
                Term(
                    CHOSEN,
                    square,
                    offset=Plus(WinRateTarget(eta), StatisticTotal("anchor_logratios"), eta * tau),
                ),
            ),
        ),
        remark=f"{ANCHOR_MODEL} The step is log pi = (1 - eta tau) log pi_t + eta tau log mu + eta P, but for a "
        "constant. The paper's opponent is the mixture of pi_t and mu; here it is whoever P was measured against, "
        "pi_t in a run. tau = 0 is SPPO.",
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
