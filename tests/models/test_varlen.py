"""The GPU's layout gives the scores of plain rows, its kernel replaced by a slow one with the documented meaning.

What FlashAttention documents: run i has the queries and keys between the borders i and i + 1; the causal diagonal is
aligned at the bottom right; a window of (left, 0) sees `left` keys before the query's own place.
"""

import inspect
from functools import partial

import pytest
import torch
from transformers import modeling_flash_attention_utils, utils

from fairplay.models import attention, varlen
from fairplay.models.layouts import lay_rows
from fairplay.models.probe import choose_layout
from fairplay.models.token_logps import score_rows
from fairplay.models.varlen import gather_rows, varlen_runs
from models.families import FAMILIES, make, make_rows
from models.test_attention import GROUPS, MIXED, assert_equal, gradients, with_adapters

WITH_WINDOWS = ["mistral, narrow window", "gemma3, narrow window", "cohere2, narrow window"]
WITH_PACKAGE = ["gemma2", "gpt_oss"]


def slow(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    s_aux=None,
    aligned="bottom right",
):
    """FlashAttention's varlen function, run by run with all scores; named and shaped as in the package."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert cu_seqlens_q[-1] == len(q)
    assert cu_seqlens_k[-1] == len(k) == len(v)
    out = []
    borders = zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], cu_seqlens_k[1:], strict=True)
    for first_q, end_q, first_k, end_k in borders:
        num_q, num_k = int(end_q - first_q), int(end_k - first_k)
        assert num_q <= max_seqlen_q
        assert num_k <= max_seqlen_k
        keys, values = (part[first_k:end_k].repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q[first_q:end_q], keys) * softmax_scale
        scores = scores if not softcap else softcap * torch.tanh(scores / softcap)
        place = torch.arange(num_q)[:, None] + (num_k - num_q if aligned == "bottom right" else 0)
        distance = place - torch.arange(num_k)
        seen = distance >= 0 if causal or window_size[1] == 0 else torch.ones_like(distance, dtype=torch.bool)
        seen &= (distance <= window_size[0]) | (window_size[0] < 0)
        scores = scores.masked_fill(~seen, -torch.inf)
        if s_aux is not None:
            scores = torch.cat([scores, s_aux[:, None, None].expand(-1, num_q, 1)], dim=-1)
        out.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1)[..., :num_k], values))
    return torch.cat(out)


def as_in_torch(query, key, value, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa, kernel=slow):
    """torch's varlen function: causal is the window (-1, 0), fewer key heads must be asked for."""
    assert enable_gqa or query.shape[1] == key.shape[1]
    return kernel(
        query, key, value, cu_q, cu_k, max_q, max_k, scale, causal=window_size == (-1, 0), window_size=window_size
    )


@pytest.fixture
def on_gpu(monkeypatch):
    """A CPU whose attention is that of a GPU, the kernels aside."""
    monkeypatch.setitem(attention.PREPARE, "cpu", varlen_runs)
    _, options = varlen._torch_function()
    monkeypatch.setattr(varlen, "_torch_function", lambda: (as_in_torch, options))
    flash = modeling_flash_attention_utils
    monkeypatch.setattr(flash, "_lazy_imports", lambda *args, **kwargs: (None, slow, None, None, None))
    monkeypatch.setattr(flash, "_loaded_implementation", None)
    monkeypatch.setattr(utils, "is_flash_attn_3_available", lambda: True)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("layout", ["packed", "shared"])
@pytest.mark.parametrize("family", [*FAMILIES, *WITH_WINDOWS, *WITH_PACKAGE])
def test_log_probs_and_gradients_are_the_naive_ones(family, layout):
    assert_equal(make(family, dtype=torch.float64), MIXED, layout, 1e-12)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("rows", GROUPS)
def test_any_number_of_responses_is_scored(rows):
    assert_equal(make("mistral, narrow window"), GROUPS[rows], "shared", 1e-5)


@pytest.mark.usefixtures("on_gpu")
def test_gradient_checkpointing_and_adapters_change_nothing():
    model = with_adapters(make("gemma3, narrow window", dtype=torch.float64))
    expected = gradients(model, score_rows(model, MIXED, tile=64, layout="shared").logps)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = gradients(model.train(), score_rows(model, MIXED, tile=64, layout="shared").logps)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("family", [*WITH_WINDOWS, *WITH_PACKAGE])
def test_windows_caps_and_sinks_are_no_reason_to_fall_back(family):
    assert choose_layout(make(family), longest=40, trains=True).layout == "shared"


@pytest.mark.usefixtures("on_gpu")
def test_a_kernel_that_counts_windows_otherwise_is_met_by_rows_as_long(monkeypatch):
    def wider(*args, window_size, **kwargs):
        return as_in_torch(*args, window_size=(window_size[0] + (window_size[0] >= 0), 0), **kwargs)

    monkeypatch.setattr(varlen, "_torch_function", lambda: (wider, {"enable_gqa": True}))
    choice = choose_layout(make("mistral"), longest=80, trains=True)
    assert choice.layout == "padded"
    assert all("beyond a window of 64 tokens" in reason for reason in choice.refused.values())


@pytest.mark.usefixtures("on_gpu")
def test_a_kernel_that_aligns_otherwise_is_caught_and_rows_are_packed(monkeypatch):
    top_left = partial(as_in_torch, kernel=partial(slow, aligned="top left"))
    monkeypatch.setattr(varlen, "_torch_function", lambda: (top_left, {"enable_gqa": True}))
    choice = choose_layout(make("llama"), longest=40, trains=True)
    assert choice.layout == "packed"
    assert "differ from those of rows on their own" in choice.refused["shared"]


@pytest.mark.parametrize("family", WITH_PACKAGE)
def test_without_the_package_caps_and_sinks_fall_back(family, monkeypatch):
    monkeypatch.setitem(attention.PREPARE, "cpu", varlen_runs)
    monkeypatch.setattr(utils, "is_flash_attn_3_available", lambda: False)
    monkeypatch.setattr(utils, "is_flash_attn_2_available", lambda: family == "gpt_oss")  # caps it has, sinks not
    choice = choose_layout(make(family), longest=40, trains=True)
    assert choice.layout == "padded"
    assert "which is not installed" in choice.refused["shared"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU, whose kernel this asks")
@pytest.mark.parametrize("family", ["llama", "qwen3", *WITH_WINDOWS])
def test_the_real_kernel_errs_no_more_than_padded_rows_do(family):
    exact = make(family).to(torch.bfloat16).float().cuda()
    exact.set_attn_implementation("eager")
    truth = score_rows(exact, MIXED, tile=64).logps
    wanted = gradients(exact, truth)
    model = make(family).to(torch.bfloat16).cuda()
    assert choose_layout(model, longest=40, trains=True).layout == "shared"
    errors = {}
    for layout in ("padded", "packed", "shared"):
        logps = score_rows(model, MIXED, tile=64, layout=layout).logps
        found = gradients(model, logps)
        wrong = [(found[name].float() - grad).norm() / grad.norm() for name, grad in wanted.items()]
        errors[layout] = (float((logps - truth).norm()), float(torch.stack(wrong).mean()))
    for layout in ("packed", "shared"):
        assert all(own < 2 * padded for own, padded in zip(errors[layout], errors["padded"], strict=True)), errors


def test_later_responses_read_a_copy_of_their_prompt():
    rows = make_rows((2, (1, 3, 2)), (1, (2,)))
    runs = varlen_runs(lay_rows(rows, "shared").segments, torch.device("cpu"))
    assert runs.queries.tolist() == [0, 3, 6, 8, 11]
    assert runs.keys.tolist() == [0, 3, 8, 12, 15]
    assert runs.gather.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 0, 1, 6, 7, 8, 9, 10]
    assert (runs.longest_query, runs.longest) == (3, 5)
    assert runs.queries.dtype == runs.keys.dtype == torch.int32
    packed = varlen_runs(lay_rows(rows, "packed").segments, torch.device("cpu"))
    assert len(packed.gather) == 0
    assert torch.equal(packed.queries, packed.keys)


def test_gradients_of_copies_are_summed_in_float32():
    values = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    gather_rows(values, torch.tensor([1] * 300 + [0])).sum().backward()
    assert values.grad.tolist() == [[1.0] * 3, [300.0] * 3]  # in bfloat16 256 + 1 is 256


def test_the_call_fits_the_installed_torch():
    function, options = varlen._torch_function()
    inspect.signature(function).bind(*range(7), scale=0.5, window_size=(-1, 0), **options)
