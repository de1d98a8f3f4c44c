"""Engine and trainer are one policy: their log-probs are compared token for token."""

from dataclasses import replace
from math import exp

import pytest
import torch

from fairplay.errors import DataError
from fairplay.generation.agreement import (
    MAX_MEASURED,
    own_logps,
    probe_text,
    refuse_disagreement,
    sampling_mismatch,
)
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.transformers_engine import TransformersEngine
from fairplay.models.chat import ChatEncoder
from fairplay.models.loading import Policy
from fairplay.records import Message, Prompt
from models.tiny import WORDS, make_model, make_tokenizer


@pytest.fixture(scope="module")
def policy():
    tokenizer = make_tokenizer("starter")
    return Policy(make_model("llama", vocab_size=len(tokenizer)), tokenizer, "memory")


def respond(policy, count=6, k=3, **changes):
    engine = TransformersEngine(policy, GenerationSettings(max_new_tokens=8, **changes))
    asked = [Prompt(f"p{i}", (Message("user", " ".join(WORDS[: 1 + i % 9])),)) for i in range(count)]
    return engine.respond(asked, [[k * i + n for n in range(k)] for i in range(count)]).groups


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.8}])
def test_the_transformers_engine_tells_the_policys_own_log_probs_whatever_it_samples_at(policy, changes):
    groups = respond(policy, **changes)
    assert all(len(r.logps) == len(r.token_ids) for group in groups for r in group.responses)
    found = sampling_mismatch(policy, groups)
    assert found.num_tokens == sum(len(r.token_ids) for group in groups for r in group.responses)
    assert 0 <= found.mean_abs <= found.max_abs < 1e-5
    assert 0 <= found.kl < 1e-10


def test_a_known_difference_is_measured_as_it_is(policy):
    groups = [
        replace(group, responses=tuple(replace(r, logps=tuple(v + 0.1 for v in r.logps)) for r in group.responses))
        for group in respond(policy)
    ]
    found = sampling_mismatch(policy, groups)
    assert found.mean_abs == pytest.approx(0.1, rel=1e-3)
    assert found.max_abs == pytest.approx(0.1, rel=1e-3)
    assert found.kl == pytest.approx(exp(-0.1) - 1 + 0.1, rel=1e-2)


def test_at_most_so_many_responses_are_measured_and_none_without_log_probs(policy):
    many = respond(policy, count=60, k=5)
    assert 0 < sampling_mismatch(policy, many).num_tokens <= 8 * MAX_MEASURED
    silent = [replace(g, responses=tuple(replace(r, logps=()) for r in g.responses)) for g in many]
    assert sampling_mismatch(policy, silent).num_tokens == 0


def test_an_engine_with_other_weights_is_refused_and_one_with_the_same_is_not(policy):
    texts = probe_text(ChatEncoder(policy.tokenizer), len(policy.tokenizer), 128)
    ours = own_logps(policy, texts)
    assert [len(row) for row in ours] == [len(text) - 1 for text in texts]
    refuse_disagreement(ours, ours, dtype="float32", engine="x")
    other = make_model("llama", vocab_size=len(policy.tokenizer))
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight += 0.05
    theirs = own_logps(Policy(other, policy.tokenizer, "memory"), texts)
    with pytest.raises(DataError, match="engine x and transformers disagree"):
        refuse_disagreement(ours, theirs, dtype="float32", engine="x")


def test_the_tolerance_is_the_dtypes_and_what_is_no_number_never_passes():
    ours = [[-1.0, -2.0]]
    refuse_disagreement(ours, [[-1.05, -2.05]], dtype="bfloat16", engine="x")
    with pytest.raises(DataError, match=r"0\.05 nats"):
        refuse_disagreement(ours, [[-1.05, -2.05]], dtype="float32", engine="x")
    with pytest.raises(DataError, match="nan nats"):
        refuse_disagreement(ours, [[-1.0, float("nan")]], dtype="bfloat16", engine="x")
