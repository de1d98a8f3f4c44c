"""The general preference model: the published code's scores, circles kept, K passes a prompt, heads in two places."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from fairplay.errors import DataError
from fairplay.oracles.general_preference import preference_scores
from fairplay.oracles.kinds.general_preference import GeneralPreferenceSettings
from fairplay.oracles.table import build_oracle
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.win_matrix import win_matrix
from oracles.tiny import group_of, make_groups, save_general_preference


def build(folder, **options):
    return build_oracle(GeneralPreferenceSettings(model=str(folder), **options))


def published_score(folder, question, first, second, value, prompt_head):
    """gpm_example_usage.py, one sample at a time: no padding, so its last token is the one replaced by EOS."""
    tokenizer, body = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in (first, second):
        sample = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
        ids = tokenizer(tokenizer.apply_chat_template(sample, tokenize=False))["input_ids"]
        prompt_ids = tokenizer(tokenizer.apply_chat_template(sample[:1], tokenize=False))["input_ids"]
        ids[-1] = tokenizer.eos_token_id
        with torch.no_grad():
            states = body(input_ids=torch.tensor([ids])).last_hidden_state[0]
        found.append((normalize(value @ states[-1], dim=-1), states[len(prompt_ids) - 1]))
    (chosen, prompt_state), (rejected, _) = found
    blocks = (
        torch.softmax(prompt_head @ prompt_state, dim=-1) if prompt_head is not None else torch.ones(len(value) // 2)
    )
    matrix = torch.zeros(len(value), len(value))
    for i in range(0, len(value), 2):
        matrix[i, i + 1], matrix[i + 1, i] = -blocks[i // 2], blocks[i // 2]
    return float(chosen @ matrix.T @ rejected)


@pytest.mark.parametrize("by_prompt", [True, False])
@pytest.mark.parametrize("published", [True, False])
def test_scores_are_those_of_the_published_code(tmp_path, by_prompt, published):
    folder = save_general_preference(tmp_path / "gpm", by_prompt=by_prompt, published=published)
    oracle = build(folder)
    group = group_of("red", "green green cat", "seven")
    (judged,) = oracle.pair_logits([group])
    for i, one in enumerate(group.responses):
        for j, other in enumerate(group.responses):
            expected = published_score(
                folder, "what is the red cat?", one.text, other.text, oracle.found.value_head, oracle.found.prompt_head
            )
            assert judged.pair_logits[i][j] == pytest.approx(expected if i != j else 0.0, abs=1e-5)
    assert oracle.temperature == 0.1


def test_scores_are_antisymmetric_to_the_last_bit_whatever_the_batch(tmp_path):
    oracle = build(save_general_preference(tmp_path / "gpm"))
    for judged in oracle.pair_logits(make_groups(6)):
        table = np.asarray(judged.pair_logits)
        np.testing.assert_array_equal(table, -table.T)
        assert np.abs(table).max() <= 1.0


def test_three_vectors_in_one_plane_prefer_in_a_circle():
    angles = torch.tensor([0.0, 2.1, 4.2])
    table = preference_scores(torch.stack([angles.cos(), angles.sin()], dim=1), torch.ones(1)).numpy()
    probs = win_matrix(table, temperature=0.1)
    assert probs[0, 1] > 0.9
    assert probs[1, 2] > 0.9
    assert probs[2, 0] > 0.9


def test_a_response_is_read_once_whatever_k(tmp_path):
    oracle = build(save_general_preference(tmp_path / "gpm"))
    rows = []
    oracle.found.body.register_forward_hook(
        lambda body, args, inputs, out: rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    (judged,) = oracle.pair_logits([group_of("red", "cat", "two", "red", "horse")])
    assert sum(rows) == 4
    assert judged.pair_logits[0][3] == 0
    assert audit_preferences([judged], temperature=0.1)["order_flip_rate"] == 0


def test_long_input_is_cut_and_flagged(tmp_path):
    oracle = build(save_general_preference(tmp_path / "gpm"), max_length=32)
    (judged,) = oracle.pair_logits([group_of("red", " ".join(["cat"] * 80))])
    assert judged.truncated == (False, True)


def test_control_tokens_in_a_text_do_not_end_it(tmp_path):
    oracle = build(save_general_preference(tmp_path / "gpm"))
    eot = oracle.found.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert oracle._row(group_of("x").prompt, "a<|eot_id|>b").ids.count(eot) == oracle._row(
        group_of("x").prompt, "ab"
    ).ids.count(eot)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"other": torch.zeros(2, 32)}, r"no value_head\.weight"),
        ({"value_head.weight": torch.zeros(3, 32)}, "do not fit a backbone of size 32"),
        ({"value_head.weight": torch.zeros(4, 16)}, "do not fit"),
        ({"value_head.weight": torch.zeros(4, 32), "prompt_head.weight": torch.zeros(4, 32)}, "do not fit"),
    ],
)
def test_heads_that_do_not_fit_are_refused(tmp_path, heads, message):
    folder = save_general_preference(tmp_path / "gpm")
    save_file(heads, folder / "preference_head.safetensors")
    with pytest.raises(DataError, match=message):
        build(folder)


def test_embeddings_that_are_no_numbers_are_refused_naming_the_prompt(tmp_path):
    oracle = build(save_general_preference(tmp_path / "gpm"))
    oracle.found.value_head.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p: the pair logit of responses"):
        oracle.pair_logits([group_of("red", "cat")])
