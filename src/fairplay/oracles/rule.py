"""The rule oracle: any function that scores a text, such as a verifier or an exact judge.

Left out: oracles with weights. Floor 4; imports no torch.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import SupportsFloat, cast

from fairplay.errors import DataError, FairplayError, SettingsError
from fairplay.lookup import nearest_hint
from fairplay.oracles.contract import scores_to_group
from fairplay.records import PreferenceGroup, Prompt, ResponseGroup

Score = Callable[[Prompt, str], float]


class RuleOracle:
    """Prefers the response with the higher score; equal texts are scored once, equal scores tie.

    Args:
        score: Gives a text that answers a prompt its points; higher is better.
        identity: How the function is called in names and reports.
        temperature: Points of score that make odds of e to 1; the logits are divided by it already.
        kind: What kind of oracle is told in its name.
    """

    temperature = 1.0

    def __init__(self, score: Score, *, identity: str, temperature: float = 1.0, kind: str = "rule") -> None:
        self.score, self.identity, self.points_per_nat = score, identity, temperature
        self.name = f"{kind}:{identity}"

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`.

        Raises:
            DataError: If the function fails on a text, or returns no finite number; names function and prompt.
        """
        return [self._judge(group) for group in groups]

    def _judge(self, group: ResponseGroup) -> PreferenceGroup:
        texts = [response.text for response in group.responses]
        points = {text: self._points(group.prompt, text) for text in dict.fromkeys(texts)}
        return scores_to_group(group, [points[text] for text in texts], scale=self.points_per_nat)

    def _points(self, prompt: Prompt, text: str) -> float:
        where = f"prompt {prompt.id}: the rule {self.identity}"
        try:
            points: object = self.score(prompt, text)
        except FairplayError:
            raise
        except Exception as error:
            raise DataError(
                f"{where} raised {type(error).__name__}: {error}", hint="it must give every text a finite number"
            ) from error
        if not isinstance(points, SupportsFloat):  # a text has no __float__, although float() reads it
            raise DataError(f"{where} returned {points!r:.60}", hint="it must give every text a finite number")
        try:
            return float(points)
        except (TypeError, ValueError, OverflowError) as error:  # such as an array of several numbers
            raise DataError(f"{where} returned {points!r:.60}", hint="one number for each text") from error


def load_function(path: str) -> Score:
    """The function at `package.module:name`.

    Raises:
        SettingsError: If the module can't be imported, or has no such function; the hint has the nearest public one.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise SettingsError(f"function: `{path}` has no module and name", hint="write `package.module:name`")
    try:
        module = importlib.import_module(module_name)
    except SettingsError as error:  # of a setting of its own
        raise SettingsError(f"function: `{module_name}`: {error.message}", hint=error.hint) from error
    except FairplayError:
        raise
    except Exception as error:  # a module runs whatever its author wrote
        told = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"function: can't import `{module_name}`: {told}",
            hint=_import_hint(module_name, error),
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SettingsError(f"function: no function `{name}` in `{module_name}`", hint=_hint(name, module))
    return cast(Score, function)


def _import_hint(module_name: str, error: Exception) -> str:
    """Where a module that is not there was looked for; where one is there and fails, what has to be mended."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module_name}.".startswith(f"{missing}."):
        return f"`{module_name}` was found, and failed while it was read; try: python -c 'import {module_name}'"
    path = os.environ.get("PYTHONPATH", "")
    looked = f"PYTHONPATH is {path}" if path else "PYTHONPATH is not set"
    file = f"{module_name.replace('.', '/')}.py"
    return (
        f"{looked}; put the folder that holds {file} on it (PYTHONPATH=. for the current one), or install its package"
    )


def _hint(name: str, module: ModuleType) -> str:
    public = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    return nearest_hint(name, public) if public else "it has no public function"


def function_source(path: str) -> str:
    """The file that a rule's function is written in, so that a run notices when it changes.

    Raises:
        SettingsError: As `load_function`.
    """
    function = load_function(path)
    try:
        return inspect.getsourcefile(function) or path
    except TypeError:  # a builtin, or an instance with __call__
        return path
