"""Responses by vLLM in this process: the K samples of a prompt are one request, the prompt is read once for all.

Token ids go in and come out; nothing but temperature and top-p shapes the distribution. Weights are loaded afresh by
every engine and never reloaded in place, which is known to go wrong silently (vllm #32718, #42821). Left out: several
engines side by side (a server of vLLM's, through the engine `openai`). Floor 4.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fairplay.errors import DataError, FairplayError, ResourceError, SettingsError
from fairplay.generation.agreement import TOLERANCES, own_logps, probe_text, refuse_disagreement
from fairplay.generation.contract import Generated
from fairplay.generation.room import check_weights, token_bytes
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.transcriber import Transcriber
from fairplay.generation.vllm_process import (
    check_device,
    free_memory,
    import_vllm,
    on_cpu,
    process_left_as_it_was,
    refusals,
)
from fairplay.models.adapters import base_of_adapter
from fairplay.models.loading import load_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Prompt, Response, ResponseGroup
from fairplay.seeds import consecutive_runs

_MIN_CPU_CACHE = 64 * 2**20
_TOKENS_AT_ONCE = 8192  # that are read in one step
_MOST_ROWS = 2048  # at once; vLLM refuses more of them than it reads tokens at a time
_ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM accepts as max_lora_rank


@dataclass(frozen=True)
class _Expected:
    """What our own model says, and what of it the engine needs.

    Attributes:
        transcriber: Prompts to ids and back.
        texts: The probe's token ids.
        logps: Our own log-probs of them.
        token_bytes: Bytes that the keys and values of a token take.
    """

    transcriber: Transcriber
    texts: tuple[tuple[int, ...], ...]
    logps: list[list[float]]
    token_bytes: int


class VllmEngine:
    """An engine that samples with vLLM.

    Args:
        llm: The running `vllm.LLM`.
        transcriber: Prompts to ids, ids to responses.
        settings: How to sample.
        adapter: The `LoRARequest` of every request, or None for a plain model.
    """

    def __init__(self, llm: Any, transcriber: Transcriber, settings: GenerationSettings, adapter: Any) -> None:
        self.llm, self.transcriber, self.settings, self.adapter = llm, transcriber, settings, adapter

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses; see `contract.Engine.respond`.

        Raises:
            ResourceError: If memory ran out.
        """
        if len(prompts) != len(seeds):
            raise DataError(f"{len(prompts)} prompts came with {len(seeds)} lists of seeds")
        prompt_ids, dropped = self.transcriber.encode(prompts)
        longest = self._most_at_once()
        rows = [(index, run) for index in prompt_ids for run in consecutive_runs(seeds[index], longest=longest)]
        responses: dict[int, list[Response]] = {index: [] for index in prompt_ids}
        found = self._generate([prompt_ids[index] for index, _ in rows], [self._sampling(run) for _, run in rows])
        for (index, run), outputs in zip(rows, found, strict=True):
            responses[index] += [self._response(output, seed) for output, seed in zip(outputs, run, strict=True)]
        groups = tuple(ResponseGroup(prompts[index], tuple(responses[index]), ids) for index, ids in prompt_ids.items())
        return Generated(groups, tuple(dropped))

    def text_logps(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probs of every token but the first of each text, nats: each is asked for as the only one allowed.

        So they come the way in which those of samples do; vLLM's own `prompt_logprobs` fail under an adapter.
        """
        from vllm import SamplingParams

        prompts = [tuple(text[:place]) for text in texts for place in range(1, len(text))]
        wanted = [token for text in texts for token in text[1:]]
        forced = [
            SamplingParams(max_tokens=1, logprobs=0, allowed_token_ids=[token], detokenize=False) for token in wanted
        ]
        found = iter(self._generate(prompts, forced))
        return [[next(found)[0].logprobs[0][token].logprob for token in text[1:]] for text in texts]

    def close(self) -> None:
        """Stop vLLM and give back its memory."""
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()
        self.llm = None
        free_memory()

    def _response(self, output: Any, seed: int) -> Response:
        token_ids = self.transcriber.until_stop(output.token_ids)
        logps = [step[token].logprob for step, token in zip(output.logprobs, token_ids, strict=False)]
        return self.transcriber.response(token_ids, logps, seed)

    def _most_at_once(self) -> int:
        """Samples that one request may have; of the likeliest tokens vLLM wants one, as all would be the same."""
        return _MOST_ROWS if self.settings.temperature > 0.0 else 1

    def _sampling(self, run: range) -> Any:
        """The parameters of samples with consecutive seeds: vLLM gives the i-th of a request `seed + i`."""
        from vllm import SamplingParams

        settings = self.settings
        return SamplingParams(
            n=len(run),
            seed=run.start,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=0,
            max_tokens=settings.max_new_tokens,
            stop_token_ids=list(self.transcriber.stop_ids),
            ignore_eos=True,  # ours are all of them
            logprobs=0,
            detokenize=False,
        )

    def _generate(self, prompts: Sequence[tuple[int, ...]], sampling: Sequence[Any]) -> list[list[Any]]:
        """What each request gave: its samples, in the order of their seeds."""
        return [list(output.outputs) for output in self._requests(prompts, sampling)] if prompts else []

    def _requests(self, prompts: Sequence[Sequence[int]], sampling: Sequence[Any]) -> list[Any]:
        inputs = [{"prompt_token_ids": list(ids)} for ids in prompts]
        try:
            with torch.compiler.set_stance("force_eager" if on_cpu() else "default"):
                return list(self.llm.generate(inputs, list(sampling), use_tqdm=False, lora_request=self.adapter))
        except torch.OutOfMemoryError as error:
            raise ResourceError("vLLM ran out of memory", hint="lower generation.batch_size") from error


def start_vllm(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> VllmEngine:
    """Start vLLM on a model, and make sure that it computes what our own model computes.

    Our own model is loaded first, and gone before vLLM takes its memory.

    Args:
        settings: How to sample.
        model: Folder in Hugging Face format or hub id; a folder with a LoRA adapter is laid over its base.
        model_settings: How training loads it.

    Raises:
        ResourceError: If vLLM is not installed, or memory does not suffice.
        SettingsError: If vLLM has no such dtype or device, or no prompt fits into the context.
        DataError: If vLLM can't run the model, or its log-probs are not our own model's.
    """
    if model_settings.dtype not in TOLERANCES:
        raise SettingsError(f"loading.dtype: vLLM has no {model_settings.dtype}", hint="set float32 or bfloat16")
    if model_settings.load_in_4bit:
        raise SettingsError(
            "loading.load_in_4bit: vLLM would sample from other weights than those that are trained",
            hint="use generation.engine=transformers, or load_in_4bit: false",
        )
    import_vllm()
    check_device(model_settings.device)
    # Weights that are split over GPUs may be too large for one: there our own model answers on the CPU.
    own = replace(model_settings, device="cpu") if settings.vllm.tensor_parallel_size > 1 else model_settings
    check_weights(model, own)
    expected = _expectation(settings, model, own)
    free_memory()
    with refusals(model), process_left_as_it_was():
        engine = _start(settings, model, model_settings, expected)
    try:
        with refusals(model):
            found = engine.text_logps(expected.texts)
        refuse_disagreement(expected.logps, found, dtype=model_settings.dtype, engine="vllm")
    except FairplayError:
        engine.close()
        raise
    return engine


def _expectation(settings: GenerationSettings, model: str, model_settings: ModelSettings) -> _Expected:
    policy = load_policy(model, model_settings)
    transcriber = Transcriber(policy, settings)
    config: Any = policy.model.config.get_text_config()
    vocabulary = min(config.vocab_size, len(policy.tokenizer))
    texts = probe_text(transcriber.encoder, vocabulary, transcriber.room + settings.max_new_tokens - 1)
    each = token_bytes(config, policy.model.dtype.itemsize)
    return _Expected(transcriber, texts, own_logps(policy, texts), each)


def _start(settings: GenerationSettings, model: str, model_settings: ModelSettings, expected: _Expected) -> VllmEngine:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    is_adapter = (Path(model).expanduser() / "adapter_config.json").is_file()
    revision = model_settings.revision or None
    length = expected.transcriber.room + settings.max_new_tokens
    rows = min(settings.batch_size, _MOST_ROWS)
    options: dict[str, Any] = {}
    if is_adapter:
        options |= {"enable_lora": True, "max_lora_rank": _adapter_rank(model)}
    if on_cpu():
        options |= {"enforce_eager": True, "kv_cache_memory_bytes": _cpu_cache(rows, length, expected.token_bytes)}
    else:
        options["gpu_memory_utilization"] = settings.vllm.gpu_memory_utilization
    llm = LLM(
        model=base_of_adapter(model) if is_adapter else model,  # its tokenizer is never asked
        revision=revision,
        tokenizer_revision=revision,
        dtype=model_settings.dtype,
        max_model_len=length,
        max_num_seqs=rows,
        max_num_batched_tokens=max(_TOKENS_AT_ONCE, length),
        enable_chunked_prefill=False,  # a prompt read in parts draws once more, from the sample's own generator
        tensor_parallel_size=settings.vllm.tensor_parallel_size,
        generation_config="vllm",  # the checkpoint's own would shape the distribution
        logprobs_mode="raw_logprobs",
        enable_prefix_caching=True,
        trust_remote_code=False,
        seed=0,
        use_tqdm_on_load=False,
        **options,
    )
    adapter = LoRARequest("policy", 1, str(Path(model).expanduser())) if is_adapter else None
    return VllmEngine(llm, expected.transcriber, settings, adapter)


def _cpu_cache(rows: int, length: int, token_bytes: int) -> int:
    """Bytes for keys and values of so many rows, in whole blocks; at most half of what is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_MIN_CPU_CACHE, min(rows * (length + 128) * token_bytes, free // 2))


def _adapter_rank(folder: str) -> int:
    from peft import PeftConfig

    rank = int(PeftConfig.from_pretrained(folder).r)
    return next((allowed for allowed in _ADAPTER_RANKS if allowed >= rank), rank)
