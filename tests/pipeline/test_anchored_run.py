"""A run whose oracle compares responses with anchors only: what was not compared is nobody's tie, and is told."""

import math

import pytest

from fairplay.pipeline.context import EXAMPLES, PREFERENCES
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.stages import EXAMPLES_NAME
from fairplay.preferences.win_matrix import win_matrix
from fairplay.records import PreferenceGroup, TrainingExample
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts
from fairplay.storage.tables import read_records


def test_win_rates_are_means_over_the_pairs_with_an_anchor(settings_of, tmp_path):
    settings = settings_of(
        "num_iterations=1",
        "generation.num_responses=4",
        "oracle.num_anchors=1",
        "evaluation.all_checkpoints=false",
        "evaluation.canaries=[]",
    )
    run = RunDirectory(tmp_path / "run")
    report = run_loop(settings, run, should_stop=lambda: False)
    groups = {one.group.prompt.id: one for one in read_parts(run.folder(1, PREFERENCES), PreferenceGroup)}
    assert len(groups) == 8
    assert all(len(one.anchors) == 1 for one in groups.values())
    manifest = run.manifest(1, PREFERENCES)
    examples = read_records(run.folder(1, EXAMPLES) / EXAMPLES_NAME, TrainingExample)
    assert examples
    for example in examples:
        judged = groups[example.prompt.id]
        (anchor,) = judged.anchors
        logits = [[math.nan if logit is None else logit for logit in row] for row in judged.pair_logits]
        against = win_matrix(logits, temperature=manifest.results["temperature"])[:, anchor]
        others = [i for i in range(4) if i != anchor]
        expected = [against[i] if i != anchor else sum(1 - against[j] for j in others) / 3 for i in range(4)]
        assert example.win_rates == pytest.approx(expected, abs=1e-9)
    assert manifest.results["audit"]["not_compared_share"] == pytest.approx(0.5, abs=0.1)  # 3 of 6, were all different
    assert "Not compared" in report.read_text()
