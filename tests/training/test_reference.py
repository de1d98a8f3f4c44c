"""The reference's log-probs: per token, in the order of the examples, and kept for a resume."""

from contextlib import contextmanager

import pytest
import torch

from fairplay.errors import DataError
from fairplay.models.encoding import encode_examples
from fairplay.models.loading import load_policy
from fairplay.training.reading import Reading
from fairplay.training.reference import LogpsFile, Question, Scorer, answers
from training.tiny import EXACT, make_examples, save_tiny_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load_policy(save_tiny_policy(tmp_path_factory.mktemp("start") / "policy"), EXACT)


def encoded(policy, count, *, num_responses=2, seed=0):
    examples = make_examples(count, num_responses=num_responses, seed=seed)
    return encode_examples(policy.tokenizer, examples, max_length=96, max_prompt_length=48).examples


def scorer(batch_size):
    return Scorer(batch_size, Reading(longest=96, bf16=False), should_stop=bool)


def test_log_probs_are_those_of_the_model_whatever_the_batches(policy):
    examples = encoded(policy, 5)
    for batch_size in (1, 2, 5):
        found = scorer(batch_size).token_logps(policy.model, examples, "log-probs")
        for example, flat in zip(examples, found, strict=True):
            expected = []
            for response in example.response_ids:
                ids = torch.tensor([[*example.prompt_ids, *response]])
                with torch.no_grad():
                    log_probs = policy.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
                expected.append(log_probs.gather(-1, ids[0, 1:, None])[-len(response) :, 0])
            torch.testing.assert_close(flat, torch.cat(expected), rtol=0, atol=1e-6)


@pytest.fixture
def kept(policy, tmp_path):
    """Log-probs of three examples in their file, with the examples."""
    examples = encoded(policy, 3)
    logps = {"train": scorer(2).token_logps(policy.model, examples, "log-probs"), "held_out": ()}
    file = LogpsFile(tmp_path / "logps.safetensors", "f")
    file.write(logps)
    return file, examples, logps


def test_log_probs_are_read_again_where_they_are_of_this_training(kept):
    file, examples, logps = kept
    known = file.read({"train": examples, "held_out": ()})
    assert known["held_out"] == ()
    assert all(torch.equal(a, b) for a, b in zip(known["train"], logps["train"], strict=True))
    assert LogpsFile(file.path, "g").read({"train": examples, "held_out": ()}) is None
    file.path.unlink()
    assert file.read({"train": examples, "held_out": ()}) is None


@pytest.mark.parametrize(("damage", "told"), [("cut", "can't be read"), ("changed", "hash differs")])
def test_kept_log_probs_that_are_not_what_was_written_are_refused_with_the_remedy(damage, told, kept):
    file, examples, _ = kept
    content = bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content if damage == "changed" else content[:-5])
    with pytest.raises(DataError, match=told) as caught:
        file.read({"train": examples, "held_out": ()})
    assert str(file.path) in str(caught.value)
    assert "remove this file" in caught.value.hint


def test_each_model_is_loaded_once_and_only_where_it_is_asked_and_the_answer_is_not_known_yet(policy, tmp_path):
    train, other = encoded(policy, 3), encoded(policy, 2, seed=1)
    questions = {
        "a": Question("one", train, "log-probs"),
        "b": Question("two", train, "log-probs"),
        "c": Question("one", other, "log-probs"),
        "d": Question("three", (), "log-probs"),
        "e": Question("two", tuple(train), "log-probs"),
    }
    loaded = []

    @contextmanager
    def load(digest):
        loaded.append(digest)
        yield policy.model

    file = LogpsFile(tmp_path / "logps.safetensors", "f")
    first = answers(questions, load, scorer(2), file)
    again = answers(questions, load, scorer(2), file)
    assert loaded == ["one", "two"]
    assert {name: len(logps) for name, logps in first.items()} == {"a": 3, "b": 3, "c": 2, "d": 0, "e": 3}
    for name, logps in first.items():
        assert all(torch.equal(x, y) for x, y in zip(logps, again[name], strict=True))
    assert first["e"] is first["b"]
    assert first["a"] is not first["b"]
