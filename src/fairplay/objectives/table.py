"""The catalogue: every objective by name.

Left out: the rows (`rows/`, one file a family), the evaluation (`evaluate.py`). Floor 2.
"""

from collections.abc import Mapping
from types import MappingProxyType

from fairplay.lookup import lookup
from fairplay.objectives.objective import Objective
from fairplay.objectives.row import Row
from fairplay.objectives.rows import core, length, listwise, margin, pointwise, reference_free, self_play, step

NOTATION = """\
a_t, b_t   log-prob of token t under policy and reference; d_t = a_t - b_t
n, K       tokens of a response; the smaller n of a pair
S, A       sum and mean of a_t over the response;  NLL = -A
u, v       sum and mean of d_t over the response
_w, _l     of the chosen, of the rejected response; _i of the i-th of an example's responses
P          probability that the response beats the policy that wrote it
sg[.]      a constant: no gradient passes"""

FAMILIES: Mapping[str, tuple[Row, ...]] = MappingProxyType(
    {
        "The ones that most people come for": core.ROWS,
        "Other losses, links and offsets of DPO's margin": margin.ROWS,
        "Remedies for length, and other weightings of tokens": length.ROWS,
        "Without a reference": reference_free.ROWS,
        "Each response by itself": pointwise.ROWS,
        "Across the pairs of a step": step.ROWS,
        "Lists of scored responses": listwise.ROWS,
        "Relatives of SPPO": self_play.ROWS,
    }
)
OBJECTIVES: Mapping[str, Row] = MappingProxyType({row.name: row for rows in FAMILIES.values() for row in rows})


def build_objective(name: str, parameters: Mapping[str, object]) -> Objective:
    """The objective of this name.

    Args:
        name: A name of the table.
        parameters: Values by name; the others keep the row's defaults.

    Raises:
        SettingsError: If there is no such objective or parameter (the hint has the nearest name), or a value is
            outside its domain.
    """
    return lookup(OBJECTIVES, name, "objective").objective(parameters)


def resolved_objective(objective: Mapping[str, object]) -> dict[str, object]:
    """An objective as a recipe writes it, with all its parameters at the values that are in force.

    Raises:
        SettingsError: If there is no such objective.
    """
    name = str(objective["name"])
    given = {key: value for key, value in objective.items() if key != "name"}
    return {"name": name, **lookup(OBJECTIVES, name, "objective").values(given)}
