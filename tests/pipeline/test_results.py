"""Every result has one form: it validates against the schema in the package, and another version's is refused."""

import json
import re
from pathlib import Path

import pytest

from fairplay.errors import DataError
from fairplay.pipeline.results import SCHEMA_VERSION, read_results, titled, with_intervals, write_results

from .schema import SCHEMA, check

DOCS = Path(__file__).parents[2] / "docs" / "results.md"
RUN = titled(
    "run", {"name": "t", "seed": 0, "objective": {"name": "sppo"}, "iterations": [{"iteration": 1}], "checkpoints": {}}
)


def test_every_interval_stands_beside_its_estimate_in_matrices_too():
    one, other = {"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 1, "low": 0.9, "high": 1}
    told = with_intervals({"rate": one, "matrix": ((one, other),), "part": {"rate": other}, "rows": [{"a": one}, 2]})
    assert told == {
        "rate": 0.5,
        "rate_ci": [0.4, 0.6],
        "matrix": [[0.5, 1]],
        "matrix_ci": [[[0.4, 0.6], [0.9, 1]]],
        "part": {"rate": 1, "rate_ci": [0.9, 1]},
        "rows": [{"a": 0.5, "a_ci": [0.4, 0.6]}, 2],
    }


def test_the_schema_refuses_a_result_with_a_key_missing_misspelt_or_out_of_range():
    good = titled(
        "accuracy",
        {"policy": "p", "data": "d", "format": "pairs", "num_in": 1, "num_out": 1, "dropped": {}}
        | {
            kind: {"accuracy": 1.0, "accuracy_ci": [0.2, 1.0], "num_pairs": 1, "ties": 0, "mean_margin": 2.5}
            for kind in ("logps", "mean_logps")
        },
    )
    check(good)
    worse = [{**good, "polizy": "p"}, {**good, "kind": "run"}, {**good, "schema_version": 1}]
    worse += [{key: value for key, value in good.items() if key != "dropped"}]
    worse += [{**good, "logps": {**good["logps"], "accuracy": 1.5}}]
    for document in worse:
        with pytest.raises(AssertionError):
            check(document)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({**RUN, "schema_version": SCHEMA_VERSION + 1}, "schema version 3, this release reads 2\nhint: a newer"),
        ({**RUN, "schema_version": 1}, "schema version 1, this release reads 2\nhint: `fairplay report RUN` renews it"),
        ({"iterations": []}, "no `schema_version`"),
        ([1], "no `schema_version`"),
        ({**RUN, "kind": "accuracy"}, "of kind `accuracy`, expected run"),
    ],
)
def test_results_of_another_version_or_kind_are_refused_by_name(document, told, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as refused:
        read_results(tmp_path, ("run",))
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


def test_what_is_written_is_read_and_a_damaged_file_is_named(tmp_path):
    write_results(tmp_path, RUN)
    assert read_results(tmp_path, ("run",)) == read_results(tmp_path / "results.json", ("comparison", "run")) == RUN
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json: can't read"):
        read_results(tmp_path, ("run",))


def test_the_page_on_results_tells_every_key_of_the_schema():
    told = set(re.findall(r"`([a-z_]+)`", DOCS.read_text()))
    keys = set()

    def walk(node):
        if isinstance(node, dict):
            keys.update(key for key in node.get("properties", {}) if not key.endswith("_ci"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(SCHEMA)
    assert keys <= told, keys - told
