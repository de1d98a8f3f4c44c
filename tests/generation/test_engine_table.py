"""Engines are known by name, say what they lack before a run starts, and their settings decide no more than they do."""

from importlib.util import find_spec

import pytest

from fairplay.errors import DataError, ResourceError, SettingsError
from fairplay.generation.settings import GenerationSettings, VllmSettings, decisive_settings
from fairplay.generation.table import ENGINES, build_engine, check_engine
from fairplay.generation.vllm_process import refusals
from fairplay.models.settings import ModelSettings
from fairplay.storage.settings_file import build_settings


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed here")
def test_an_engine_whose_package_is_missing_names_the_command_that_installs_it():
    for refuse in (check_engine, lambda settings: build_engine(settings, "x", ModelSettings())):
        with pytest.raises(ResourceError, match="vllm needs the package vllm") as caught:
            refuse(GenerationSettings(engine="vllm"))
        assert caught.value.hint == "pip install 'fairplay[vllm]'"


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="did you mean `vllm`"):
        check_engine(GenerationSettings(engine="vlm"))


@pytest.mark.parametrize("fault", [{"tensor_parallel_size": 0}, {"gpu_memory_utilization": 0.0}])
def test_settings_of_vllm_out_of_range_are_refused(fault):
    with pytest.raises(SettingsError, match=next(iter(fault))):
        VllmSettings(**fault)


def test_who_asks_for_data_parallel_is_told_of_workers():
    with pytest.raises(SettingsError, match=r"vllm.data_parallel_size: unknown setting") as caught:
        build_settings(GenerationSettings, {"vllm": {"data_parallel_size": 2}}, "recipe")
    assert "cluster.num_workers" in caught.value.hint


def test_only_what_can_move_a_sample_decides_what_a_stage_holds():
    plain = decisive_settings(GenerationSettings())
    assert not set(plain) & set(ENGINES)
    assert decisive_settings(GenerationSettings(vllm=VllmSettings(tensor_parallel_size=2))) == plain
    vllm = decisive_settings(GenerationSettings(engine="vllm"))
    frugal = GenerationSettings(engine="vllm", vllm=VllmSettings(gpu_memory_utilization=0.3))
    assert decisive_settings(frugal) == vllm != plain
    split = GenerationSettings(engine="vllm", vllm=VllmSettings(tensor_parallel_size=2))
    assert decisive_settings(split) != vllm


@pytest.mark.parametrize(
    ("raised", "told", "message"),
    [
        (ValueError("To serve one request, 3 GiB KV cache memory is needed"), ResourceError, "too little memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), ResourceError, "too little memory"),
        (ValueError("Model architectures ['X'] are not supported"), DataError, "can't run this model"),
    ],
)
def test_what_vllm_refuses_is_told_as_memory_or_as_a_model_it_can_not_run(raised, told, message):
    with pytest.raises(told, match=message), refusals("policy"):
        raise_in("vllm.v1.engine", raised)


def test_an_error_of_our_own_is_not_told_as_one_of_vllm():
    for module in ("fairplay.generation.vllm_engine", "numpy"):
        with pytest.raises(ValueError, match="out of memory, we say") as caught, refusals("policy"):
            raise_in(module, ValueError("out of memory, we say"))
        assert not isinstance(caught.value, DataError)


def raise_in(module, error):
    """Raise in a function that such a module could hold."""
    names = {"__name__": module}
    exec("def fail(error):\n    raise error", names)
    names["fail"](error)
