"""Validation of results against the schema that the package ships."""

import json

from jsonschema import Draft202012Validator

from fairplay.pipeline.results import SCHEMA_PATH

SCHEMA = json.loads(SCHEMA_PATH.read_text())
Draft202012Validator.check_schema(SCHEMA)
_KINDS = {"run": "run", "comparison": "sides", "accuracy": "pairs", "difference": "differences"}
_KINDS |= {kind: kind for kind in ("training", "oracle", "judging", "grading", "benchmarks", "verification")}


def check(document):
    """Refuse a document that the schema does not describe, with the places of its faults."""
    plain = json.loads(json.dumps(document, allow_nan=False))
    faults = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(plain)]
    if faults and plain.get("kind") in _KINDS:  # the fault of the kind itself says more than "not one of"
        part = {**SCHEMA, "$ref": f"#/$defs/{_KINDS[plain['kind']]}"}
        del part["oneOf"]
        faults = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(part).iter_errors(plain)]
    assert not faults, "\n".join(faults)
