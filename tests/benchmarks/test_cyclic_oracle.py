"""Self-play on a circle, played short: pair probabilities keep all kinds of responses alive, a reward leaves one."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def reachable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def test_a_table_goes_round_by_pair_probabilities_and_ends_in_a_corner_by_a_reward():
    import cyclic_table
    from cyclic_circle import ARMS, WORST, exploited

    policies = {name: cyclic_table.play(ARMS[name], 0, 40) for name in ("calibrated", "bradley-terry")}
    assert max(map(exploited, policies["calibrated"])) < 0.45 * WORST
    assert exploited(policies["calibrated"].mean(axis=0)) < 0.15 * WORST
    assert exploited(policies["bradley-terry"][-1]) > 0.8 * WORST


@pytest.mark.slow
def test_a_language_model_stays_bounded_by_pair_probabilities_and_collapses_by_a_reward(tmp_path):
    from cyclic_circle import ARMS, WORST, exploited
    from cyclic_world import build_world, play

    world = build_world(tmp_path, seed=0, num_prompts=600)
    runs = {name: play(world, name, ARMS[name], num_iterations=12) for name in ("calibrated", "bradley-terry")}
    circling, collapsed = runs["calibrated"], runs["bradley-terry"]
    assert min(run.on_texts.min() for run in runs.values()) > 0.9
    assert max(map(exploited, circling.policies)) < 0.6 * WORST
    assert circling.policies.mean(axis=1).min() > 0.08
    assert exploited(collapsed.policies[-1]) > 0.75 * WORST
    assert collapsed.policies[-1].mean(axis=0).max() > 0.85
    for run in runs.values():
        assert run.game["exploitability_low"] <= exploited(run.policies[-1])
    shares = {name: sum(weight > 0.01 for weight in run.game["nash"]) for name, run in runs.items()}
    assert shares["calibrated"] >= 3 > shares["bradley-terry"]
