import subprocess
import sys

import pytest

from fairplay.errors import SettingsError
from fairplay.evaluation.settings import EvaluationSettings
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.rule import RuleSettings

GIVEN = {"prompts": "held-out.jsonl", "judge": RuleSettings(function="package.module:name")}


def test_defaults_are_those_of_the_recipes():
    settings = EvaluationSettings(**GIVEN)
    assert (settings.num_samples, settings.num_bootstrap, settings.opponents) == (1, 2000, ("start", "previous"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": -1}, "num_prompts"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_bootstrap": 10}, "num_bootstrap"),
        ({"opponents": ()}, "there is none"),
        ({"opponents": ("start", "start")}, "twice"),
        ({"opponents": ("previos",)}, "did you mean `previous`"),
        ({"judge": PairModelSettings(model="m", orders="one")}, r"evaluation\.judge\.orders: `one`"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        EvaluationSettings(**GIVEN | options)


def test_evaluation_imports_no_torch():
    modules = "settings, win_rates, judging, oracle_gap, preference_accuracy"
    check = f"from fairplay.evaluation import {modules}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
