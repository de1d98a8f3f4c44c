"""Objectives that judge each response by itself, with or without pairs, some against an anchor.

Left out: SPPO (`core.py`, `self_play.py`). Floor 2. r = beta u.
"""

from fairplay.objectives.anchors import MismatchedKl, RunningMean
from fairplay.objectives.columns import Anchored, Labelled, MeanLogratio
from fairplay.objectives.comparisons import Labelled as LabelledRows
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.losses import logistic, sigmoid, square
from fairplay.objectives.objective import CHOSEN, NOT_CHOSEN, NOT_REJECTED, PAIR, REJECTED, Objective, Term
from fairplay.objectives.row import NON_NEGATIVE, Parameter, Row
from fairplay.objectives.rows.core import DPO_BETA, NLL_REDUCTION
from fairplay.objectives.sides import chosen, rejected

NCA_BETA = Parameter("beta", 0.01, "0.01 (paper)")

ROWS = (
    Row(
        "kto",
        "KTO",
        "Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8",
        "lam_d (1 - sigmoid(r - beta z)) if desirable, lam_u (1 - sigmoid(beta z - r)) if not; "
        "z = sg[max(0, mean u of mismatched rows)]",
        (
            DPO_BETA,
            Parameter("lam_d", 1.0, "1; lam_d n_d / (lam_u n_u) in [1, 4/3]", NON_NEGATIVE),
            Parameter("lam_u", 1.0, "1", NON_NEGATIVE),
        ),
        lambda beta, lam_d, lam_u: Objective(
            comparison=LabelledRows(),
            beta=beta,
            anchor=MismatchedKl(),
            terms=(
                Term(CHOSEN, sigmoid, coefficient=Labelled(lam_d, desirable=True), offset=Anchored(beta)),
                Term(NOT_CHOSEN, sigmoid, coefficient=Labelled(lam_u, desirable=False), offset=Anchored(-beta)),
            ),
        ),
        remark="A mean over responses, so half of the sum over a pair. With z = 0 it is half of `apo_zero`.",
        elsewhere="TRL's `kto` is the same, with z from each micro-batch; its `apo_zero_unpaired` has z = 0. SimPO's "
        "paper prints the rejected term with the opposite sign.",
    ),
    Row(
        "kto_pair_old",
        "Paired KTO of early TRL",
        "huggingface/trl before 0.9, uclaml/SPPO, LuJunru/SamPO",
        "1/2 [1 - sigmoid(beta (u_w - Z_l)) + 1 - sigmoid(beta (Z_w - u_l))], Z = max(0, mean u over the step)",
        (DPO_BETA,),
        lambda beta: Objective(
            beta=beta,
            terms=(
                Term(CHOSEN, sigmoid, coefficient=0.5, offset=MeanLogratio(beta, of=rejected)),
                Term(NOT_REJECTED, sigmoid, coefficient=0.5, offset=MeanLogratio(-beta, of=chosen)),
            ),
        ),
        remark="The gradient passes through Z, unlike KTO's.",
        elsewhere="Removed from TRL.",
    ),
    Row(
        "bco_pair",
        "BCO",
        "Jung et al. 2024, arXiv:2404.04656",
        "-log sigmoid(r_w - delta) - log sigmoid(-(r_l - delta)), delta = sg[running mean of r]",
        (NCA_BETA,),
        lambda beta: Objective(
            beta=beta,
            anchor=RunningMean(),
            terms=(
                Term(CHOSEN, logistic, offset=Anchored()),
                Term(NOT_REJECTED, logistic, offset=Anchored(-1.0)),
            ),
        ),
        elsewhere="TRL's `bco_pair` has lost the running mean; that is `bco_pair_no_delta`.",
    ),
    Row(
        "bco_pair_no_delta",
        "BCO without its running mean",
        "huggingface/trl from 1.0 on; thu-ml/Noise-Contrastive-Alignment `biasedNCA`",
        "-log sigmoid(r_w) - log sigmoid(-r_l)",
        (NCA_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(CHOSEN, logistic), Term(NOT_REJECTED, logistic))),
        elsewhere="TRL calls it `bco_pair`.",
    ),
    Row(
        "nca_pair",
        "NCA on a pair",
        "Chen et al. 2024, arXiv:2402.05369",
        "-log sigmoid(r_w) - 1/2 log sigmoid(-r_w) - 1/2 log sigmoid(-r_l)",
        (NCA_BETA,),
        lambda beta: Objective(
            beta=beta,
            terms=(
                Term(CHOSEN, logistic),
                Term(NOT_CHOSEN, logistic, coefficient=0.5),
                Term(NOT_REJECTED, logistic, coefficient=0.5),
            ),
        ),
        elsewhere="TRL's `nca_pair` is the same.",
    ),
    Row(
        "apo_zero",
        "APO-zero",
        "D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7",
        "1 - sigmoid(r_w) + sigmoid(r_l)",
        (DPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(CHOSEN, sigmoid), Term(NOT_REJECTED, sigmoid))),
        elsewhere="TRL's `apo_zero` is the same.",
    ),
    Row(
        "apo_down",
        "APO-down",
        "D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8",
        "sigmoid(r_w) + 1 - sigmoid(r_w - r_l)",
        (DPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(NOT_CHOSEN, sigmoid), Term(PAIR, sigmoid))),
        remark="For chosen responses that are worse than the policy's own: it lowers both, the rejected one more.",
        elsewhere="TRL's `apo_down` is the same.",
        raises_chosen=False,
    ),
    Row(
        "cal_dpo",
        "Cal-DPO",
        "Xiao et al. 2024, arXiv:2412.14516",
        "-log sigmoid(u_w - u_l) + 1/2 [(u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2]",
        (Parameter("beta", 1e-3, "0.001 to 0.002 (its scripts)"),),
        lambda beta: Objective(
            terms=(
                Term(PAIR, logistic),
                Term(CHOSEN, square, coefficient=0.5, offset=1 / (2 * beta)),
                Term(REJECTED, square, coefficient=0.5, offset=-1 / (2 * beta)),
            )
        ),
    ),
    Row(
        "mpo",
        "MPO (mixed preference optimisation)",
        "Wang et al. 2024, arXiv:2411.10442",
        "preference `dpo` + quality `bco_pair` + generation NLL_w",
        (
            DPO_BETA,
            Parameter("preference", 0.8, "0.8 (paper)", NON_NEGATIVE),
            Parameter("quality", 0.2, "0.2 (paper)", NON_NEGATIVE),
            Parameter("generation", 1.0, "1 (paper)", NON_NEGATIVE),
            NLL_REDUCTION,
        ),
        lambda beta, preference, quality, generation, reduction: Objective(
            beta=beta,
            anchor=RunningMean(),
            terms=(
                Term(PAIR, logistic, coefficient=preference),
                Term(CHOSEN, logistic, coefficient=quality, offset=Anchored()),
                Term(NOT_REJECTED, logistic, coefficient=quality, offset=Anchored(-1.0)),
            ),
            likelihood=Likelihood(generation, reduction),
        ),
        elsewhere="TRL: `[sigmoid, bco_pair, sft]` with loss_weights, but its `bco_pair` has no running mean and its "
        "likelihood is a mean over the micro-batch's tokens. LLaMA-Factory divides the sum by 1 + the weight of `bco`.",
    ),
)
