"""An oracle from its settings, and what identifies it.

Left out: the oracles; each is imported when it is built, so that a rule needs no torch. Floor 4.
"""

from typing import Any

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings, told_under
from fairplay.oracles.source import Source


def build_oracle(settings: KindSettings) -> PreferenceOracle:
    """The oracle that the settings name, ready to judge.

    Raises:
        SettingsError: If its folder or function does not exist.
        DataError: If its folder is not what the kind needs.
    """
    return settings.build()


def oracle_identity(settings: KindSettings, *, setting: str = "oracle") -> tuple[dict[str, Any], dict[str, Source]]:
    """What decides an oracle's verdicts: its settings without places and patience, and what lies there by name.

    Args:
        settings: The oracle's.
        setting: Under which key they stand, such as `evaluation.judge`.

    Raises:
        SettingsError: If a function or a template is not there; by the setting's whole name.
    """
    with told_under(setting, settings):
        return settings.identity(), dict(settings.sources())
