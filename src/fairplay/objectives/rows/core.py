"""The rows that most people come for: DPO, IPO, SimPO, SamPO, SPPO, supervised fine-tuning.

Left out: the other families (beside this file). Floor 2.
"""

from fairplay.objectives.columns import WinRateTarget
from fairplay.objectives.comparisons import Chosen, Each, PairsBySubset, RepeatedPairs
from fairplay.objectives.likelihood import Likelihood
from fairplay.objectives.losses import logistic, square
from fairplay.objectives.objective import CHOSEN, PAIR, REJECTED, Objective, Term
from fairplay.objectives.row import COUNT, NON_NEGATIVE, REDUCTION, Parameter, Row
from fairplay.objectives.sides import rejected
from fairplay.objectives.tokens import Apart, Kept, Mean, Shared, Subset

DPO_BETA = Parameter("beta", 0.1, "0.1 (paper); 0.01 to 0.5; SimPO's authors found 0.01 best")
SIMPO_BETA = Parameter("beta", 2.5, "2 to 2.5 (paper), 10 (later releases)")
SIMPO_GAMMA = Parameter("gamma", 1.375, "0.1 to 0.8 of beta; 0.55 of it for Llama-3-Instruct", NON_NEGATIVE)
SPPO_ETA = Parameter("eta", 1000.0, "1000 (the authors' code calls 1 / eta beta, 0.001); below 10 for an exact update")
NLL_REDUCTION = Parameter("reduction", "sequence", "the papers average over each sequence; TRL over tokens", REDUCTION)

ROWS = (
    Row(
        "dpo",
        "DPO",
        "Rafailov et al. 2023, arXiv:2305.18290, eq. 7",
        "-log sigmoid(beta (u_w - u_l))",
        (DPO_BETA,),
        lambda beta: Objective(beta=beta, terms=(Term(PAIR, logistic),)),
        remark="SPIN (2401.01335) is DPO with responses of the reference as the rejected ones. TR-DPO (2404.09656) and "
        "iterative DPO move the reference; that is a schedule, not a loss.",
        elsewhere="TRL's `sigmoid` is the same. Averaging log-probs at the same beta, as TRL once did, is `dpo_norm` "
        "with a beta hundreds of times too small.",
    ),
    Row(
        "ipo_sum",
        "IPO, summed log-probs",
        "Azar et al. 2023, arXiv:2310.12036, eq. 17",
        "(u_w - u_l - 1 / (2 tau))^2",
        (Parameter("tau", 0.1, "0.01 to 1"),),
        lambda tau: Objective(terms=(Term(PAIR, square, offset=1 / (2 * tau)),)),
        remark="The paper's form.",
        elsewhere="The original DPO repository, OpenRLHF and TRL's online trainer sum, too; TRL's DPOTrainer, "
        "LLaMA-Factory and HALOs compute `ipo_mean`.",
    ),
    Row(
        "ipo_mean",
        "IPO, mean log-probs",
        "Azar et al. 2023, arXiv:2310.12036, as its authors corrected TRL (huggingface/trl#1265)",
        "(v_w - v_l - 1 / (2 tau))^2",
        (Parameter("tau", 0.1, "0.01 to 1"),),
        lambda tau: Objective(tokens=Mean(), terms=(Term(PAIR, square, offset=1 / (2 * tau)),)),
        elsewhere="TRL's `ipo` (its beta is tau) and LLaMA-Factory's. HALOs counts tokens by a reward that is not 0, "
        "which is 0 / 0 while policy and reference agree. TRL's CPOTrainer has an `ipo` without a reference.",
    ),
    Row(
        "simpo",
        "SimPO",
        "Meng et al. 2024, arXiv:2405.14734, eq. 6",
        "-log sigmoid(beta (A_w - A_l) - gamma)",
        (SIMPO_BETA, SIMPO_GAMMA),
        lambda beta, gamma: Objective(
            tokens=Mean(), reference=False, beta=beta, terms=(Term(PAIR, logistic, offset=gamma),)
        ),
        remark="gamma is absolute here, as in the paper.",
        elsewhere="The authors' code takes gamma / beta. TRL's CPOTrainer adds a likelihood term to its `simpo` unless "
        "cpo_alpha is 0. SamPO's repository has beta outside the sigmoid: a different loss.",
    ),
    Row(
        "simpo_sft",
        "SimPO with a likelihood term (CPO-SimPO)",
        "Meng et al. 2024, arXiv:2405.14734, and fe1ixxu/CPO_SIMPO",
        "-log sigmoid(beta (A_w - A_l) - gamma) + alpha NLL_w",
        (
            Parameter("beta", 10.0, "10 (CPO_SIMPO)"),
            Parameter("gamma", 5.4, "5.4 (CPO_SIMPO)", NON_NEGATIVE),
            Parameter("alpha", 0.05, "0.05 (CPO_SIMPO), 1 (TRL's default)", NON_NEGATIVE),
            NLL_REDUCTION,
        ),
        lambda beta, gamma, alpha, reduction: Objective(
            tokens=Mean(),
            reference=False,
            beta=beta,
            terms=(Term(PAIR, logistic, offset=gamma),),
            likelihood=Likelihood(alpha, reduction),
        ),
        elsewhere="TRL's CPOTrainer with `simpo`; its likelihood is a mean over the tokens of each micro-batch "
        "(`reduction: token`, where there is one micro-batch).",
    ),
    Row(
        "sampo",
        "SamPO",
        "Lu et al. 2024, arXiv:2406.10957",
        "-log sigmoid(beta (sum_{t in I_w} d_t - sum_{t in I_l} d_t)), I: K tokens drawn uniformly",
        (DPO_BETA, Parameter("draws", 1, "1; the variance falls as 1 / draws at no forward cost", COUNT)),
        lambda beta, draws: Objective(
            comparison=RepeatedPairs(draws), tokens=Kept(), beta=beta, terms=(Term(PAIR, logistic),)
        ),
        remark="Policy and reference share the kept tokens, so the margin is 0 where they agree. Iterative SamPO moves "
        "the reference every epoch.",
        elsewhere="The public code draws anew for policy and reference (`sampo_as_released`). No library offers SamPO.",
    ),
    Row(
        "sampo_as_released",
        "SamPO as its public code computes it",
        "LuJunru/SamPO dpo_trainer.py, len_norm=1",
        "-log sigmoid(beta (sum_{I_w} a_t - sum_{J_w} b_t - sum_{I_l} a_t + sum_{J_l} b_t)), I, J: two draws of K",
        (DPO_BETA, Parameter("draws", 1, "1 (its code)", COUNT)),
        lambda beta, draws: Objective(
            comparison=RepeatedPairs(draws),
            tokens=Kept(),
            reference_tokens=Apart(Kept("kept tokens of the reference")),
            beta=beta,
            terms=(Term(PAIR, logistic),),
        ),
        remark="To reproduce published numbers only. Policy and reference draw their kept tokens independently of each "
        "other, so the margin is no log-ratio: at the start, where it should be 0, it is noise (standard deviation "
        "about 1.7 for 200 against 400 tokens of spread 1.2 at beta 0.1). Metrics take the draws at their mean.",
        elsewhere="Whether the published scores were made so can't be told from the repository.",
    ),
    Row(
        "sampo_mean",
        "SamPO at its expected margin",
        "Lu et al. 2024, arXiv:2406.10957",
        "-log sigmoid(beta K (v_w - v_l))",
        (DPO_BETA,),
        lambda beta: Objective(tokens=Shared(), beta=beta, terms=(Term(PAIR, logistic),)),
        remark="Deterministic; below the expected loss by about half the variance of the draws.",
    ),
    Row(
        "sampo_expected",
        "SamPO's exact expectation",
        "Lu et al. 2024, arXiv:2406.10957",
        "the mean of SamPO's loss over all choices of K tokens",
        (DPO_BETA,),
        lambda beta: Objective(comparison=PairsBySubset(), tokens=Subset(), beta=beta, terms=(Term(PAIR, logistic),)),
        remark="For short responses: the number of choices is a binomial coefficient, and above 20,000 it is refused.",
    ),
    Row(
        "sppo",
        "SPPO over all K responses",
        "Wu et al. 2024, arXiv:2405.00675, Algorithm 1",
        "mean over i of (u_i - eta (P_i - 1/2))^2",
        (SPPO_ETA,),
        lambda eta: Objective(comparison=Each(), terms=(Term(CHOSEN, square, offset=WinRateTarget(eta)),)),
        remark="The paper's algorithm.",
        elsewhere="The authors' code trains on the best and the worst response only (`sppo_soft`).",
    ),
    Row(
        "sppo_soft",
        "SPPO on a pair",
        "Wu et al. 2024, arXiv:2405.00675, eq. 4.4; uclaml/SPPO `sppo`",
        "1/2 [(u_w - eta (P_w - 1/2))^2 + (u_l - eta (P_l - 1/2))^2]",
        (SPPO_ETA,),
        lambda eta: Objective(
            terms=(
                Term(CHOSEN, square, coefficient=0.5, offset=WinRateTarget(eta)),
                Term(REJECTED, square, coefficient=0.5, offset=WinRateTarget(eta, of=rejected)),
            )
        ),
        elsewhere="The authors' code calls 1 / eta beta. Its win rates come from scores that PairRM has aggregated "
        "over all candidates, not from judged pairs.",
    ),
    Row(
        "sppo_hard",
        "SPPO with win rates 1 and 0",
        "Wu et al. 2024, arXiv:2405.00675, as in TRL",
        "(u_w - eta / 2)^2 + (u_l + eta / 2)^2",
        (SPPO_ETA,),
        lambda eta: Objective(terms=(Term(CHOSEN, square, offset=eta / 2), Term(REJECTED, square, offset=-eta / 2))),
        remark="A sum, so twice `sppo_soft` at win rates 1 and 0.",
        elsewhere="TRL's `sppo_hard`, whose beta is 1 / eta.",
    ),
    Row(
        "sft",
        "Supervised fine-tuning",
        "maximum likelihood",
        "NLL_w",
        (Parameter("reduction", "token", "mean over all tokens of the step, as most libraries do", REDUCTION),),
        lambda reduction: Objective(comparison=Chosen(), reference=False, likelihood=Likelihood(1.0, reduction)),
        remark="Learns from every response, or from the chosen ones where the data are pairs.",
        elsewhere="TRL's `sft` is a mean over the chosen tokens of each micro-batch; accumulated, that is not the mean "
        "over the step's tokens.",
    ),
)
