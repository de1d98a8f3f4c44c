"""Where a file of golden values keeps the parameters of each objective.

Left out: the comparison (`check.py`). Floor 2. An objective that is not listed takes none.
"""

from collections.abc import Callable, Mapping

Parameters = Callable[[Mapping[str, float]], Mapping[str, object]]


def _named(**names: str) -> Parameters:
    """Parameters that the file has under other names."""
    return lambda params: {name: params[theirs] for name, theirs in names.items()}


def _with(fixed: Mapping[str, object], **names: str) -> Parameters:
    """Parameters of which the file leaves some out, since it has them fixed."""
    return lambda params: {**fixed, **_named(**names)(params)}


def _inverse(name: str, theirs: str) -> Parameters:
    """A parameter of which the file has the inverse."""
    return lambda params: {name: 1 / params[theirs]}


_BETA = _named(beta="beta")
_TAU = _named(tau="tau")
_BETA_EPSILON = _named(beta="beta", epsilon="eps")
_SIMPO = {"beta": "simpo_beta", "gamma": "simpo_gamma"}
_NCA = _named(beta="beta", alpha="nca_alpha")

PARAMETERS: Mapping[str, Parameters] = {
    "dpo": _BETA,
    "cdpo": _BETA_EPSILON,
    "robust": _BETA_EPSILON,
    "ipo_sum": _TAU,
    "ipo_mean": _TAU,
    "hinge": _BETA,
    "slic_hf": _named(delta="slic_delta", lam="slic_lambda"),
    "rrhf_pair": _named(lam="rrhf_lambda"),
    "cpo": _named(beta="beta", alpha="cpo_alpha"),
    "cpo_no_nll": _BETA,
    "orpo": _named(lam="orpo_lambda"),
    "orpo_or_term": _named(lam="orpo_lambda"),
    "rdpo": _named(beta="beta", alpha="rdpo_alpha"),
    "simpo": _named(**_SIMPO),
    "simpo_sft": _with({"alpha": 1.0}, **_SIMPO),
    "alphapo": _named(**_SIMPO, alpha="alphapo_alpha"),
    "alpha_dpo": _named(**_SIMPO, alpha="adpo_alpha"),
    "dpo_norm": _named(beta="ln_beta"),
    "sampo": _BETA,
    "sampo_expected": _BETA,
    "dpo_sanorm": _BETA,
    "ld_dpo": _named(beta="beta", alpha="ld_alpha"),
    "tis_dpo": _BETA,
    "tis_dpo_token": _named(beta="beta", alpha="tis_alpha"),
    "tdpo1": _BETA,
    "tdpo2": _named(beta="beta", alpha="tdpo_alpha"),
    "dpop": _named(beta="beta", lam="dpop_lambda"),
    "rpo_nll": _named(beta="beta", alpha="rpo_alpha"),
    "odpo": _named(beta="beta", alpha="odpo_alpha"),
    "nv_rpo": _named(beta="beta", eta="nvrpo_eta"),
    "exo_pair": _named(beta="beta", epsilon="exo_eps"),
    "infonca_pair": _NCA,
    "nca_pair": _BETA,
    "bco_pair": _BETA,
    "bco_pair_no_delta": _BETA,
    "kto": _named(beta="beta", lam_d="lam_d", lam_u="lam_u"),
    "kto_pair_old": _BETA,
    "sppo_hard": _inverse("eta", "sppo_beta"),
    "sppo_soft": _inverse("eta", "sppo_beta"),
    "cal_dpo": _named(beta="cal_beta"),
    "apo_zero": _BETA,
    "apo_down": _BETA,
    "discopop": _named(beta="beta", tau="disco_tau"),
    "fdpo_forward_kl": _BETA,
    "fdpo_js": _BETA,
    "fdpo_alpha": _named(beta="beta", alpha="f_alpha"),
    "chi_po": _named(beta="beta", limit="chi_clip"),
    "gpo_squared": _BETA,
    "gpo_exponential": _BETA,
    "gpo_trunc_quadratic": _BETA,
    "gpo_savage": _BETA,
    "wpo": _BETA,
    "wpo_unclamped": _BETA,
    "beta_dpo": _with({"momentum": 1.0}, beta="beta", alpha="bdpo_a", m0="bdpo_m0"),
    "aot_paired": _BETA,
    "aot_unpaired": _BETA,
    "dr_dpo": _named(beta="beta", beta_prime="drdpo"),
    "infonca_reward": _NCA,
    "nca_reward": _NCA,
    "exo_reward": _NCA,
    "plackett_luce_dpo": _BETA,
    "lipo_pairwise_logistic": _BETA,
}
