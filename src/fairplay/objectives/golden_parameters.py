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


PARAMETERS: Mapping[str, Parameters] = {
    "dpo": _named(beta="beta"),
    "ipo_sum": _named(tau="tau"),
    "ipo_mean": _named(tau="tau"),
    "simpo": _named(beta="simpo_beta", gamma="simpo_gamma"),
    "simpo_sft": _with({"alpha": 1.0}, beta="simpo_beta", gamma="simpo_gamma"),
    "sampo": _named(beta="beta"),
    "sampo_expected": _named(beta="beta"),
    "sppo_soft": _inverse("eta", "sppo_beta"),
    "sppo_hard": _inverse("eta", "sppo_beta"),
}
