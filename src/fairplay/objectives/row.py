"""A row of the catalogue: a published objective with its source, formula and parameters.

Left out: the rows themselves (`rows/`), looking them up (`table.py`). Floor 2.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fairplay.errors import SettingsError
from fairplay.lookup import nearest_hint
from fairplay.objectives.likelihood import REDUCTIONS
from fairplay.objectives.objective import Objective


@dataclass(frozen=True)
class Domain:
    """The values that a parameter may have; `text` completes "must be ..."."""

    contains: Callable[[object], bool]
    text: str


def _number(is_allowed: Callable[[float], bool]) -> Callable[[object], bool]:
    def contains(value: object) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(float(str(value))) and is_allowed(float(str(value)))

    return contains


POSITIVE = Domain(_number(lambda value: value > 0), "a number above 0")
NON_NEGATIVE = Domain(_number(lambda value: value >= 0), "a number from 0 on")
REAL = Domain(_number(lambda value: True), "a finite number")
NOISE = Domain(_number(lambda value: 0 <= value < 0.5), "a number in [0, 0.5)")
PROBABILITY = Domain(_number(lambda value: 0 < value < 1), "a number in (0, 1)")
FRACTION = Domain(_number(lambda value: 0 <= value <= 1), "a number in [0, 1]")
SHARE = Domain(_number(lambda value: 0 <= value < 1), "a number in [0, 1)")
COUNT = Domain(lambda value: type(value) is int and value >= 1, "a whole number from 1 on")
REDUCTION = Domain(lambda value: value in REDUCTIONS, f"one of {', '.join(REDUCTIONS)}")


@dataclass(frozen=True)
class Parameter:
    """A parameter by the paper's symbol.

    Attributes:
        name: The symbol, spelled out; lambda is `lam`.
        default: The default; `published` says where it comes from.
        published: Published values or ranges, in words.
        domain: The values that it may have.
    """

    name: str
    default: float | str
    published: str
    domain: Domain = POSITIVE


@dataclass(frozen=True)
class Row:
    """A published objective.

    Attributes:
        name: The name in recipes and on the command line.
        title: The name in papers.
        paper: First author, year, arXiv number, equation.
        formula: The loss of one example, in the notation of `table.NOTATION`.
        parameters: What can be set.
        build: From the parameters' values, by name, to the objective.
        remark: What a reader should know: traps, relatives, what is left out.
        elsewhere: How other libraries' or the authors' loss of this name differs from the formula, or that it does not.
        raises_chosen: Whether the first step from the reference makes chosen responses likelier.
    """

    name: str
    title: str
    paper: str
    formula: str
    parameters: tuple[Parameter, ...]
    build: Callable[..., Objective]
    remark: str = ""
    elsewhere: str = ""
    raises_chosen: bool = True

    @property
    def needs(self) -> frozenset[str]:
        """What a batch must have, with the parameters at their defaults."""
        return self.objective({}).needs

    def objective(self, parameters: Mapping[str, object]) -> Objective:
        """Build the objective.

        Args:
            parameters: Values by name; the others keep their defaults.

        Raises:
            SettingsError: If a name is not a parameter of this row, or a value is outside its domain.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in parameters.items():
            if name not in known:
                hint = nearest_hint(name, known) if known else "it takes no parameters"
                raise SettingsError(f"objective `{self.name}` has no parameter `{name}`", hint=hint)
            if not known[name].domain.contains(value):
                text = f"objective `{self.name}`: `{name}` must be {known[name].domain.text}, not {value!r}"
                raise SettingsError(text, hint=f"published: {known[name].published}")
        return replace(self.build(**self.values(parameters)), name=self.name)

    def values(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """All parameters with the values that are in force: those given, the others at their defaults."""
        return {parameter.name: parameter.default for parameter in self.parameters} | dict(parameters)
