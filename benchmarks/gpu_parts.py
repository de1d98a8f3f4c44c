"""The parts of `gpu.py`: each computes on a `Place` and notes its figures as it goes."""

import gc
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from fairplay.models.adapters import add_adapters
from fairplay.models.encoding import EncodedExample
from fairplay.models.loading import Policy
from fairplay.models.settings import AdapterSettings
from fairplay.models.token_logps import score_rows
from fairplay.records import Prompt, TrainingExample
from fairplay.training.batches import example_rows, num_input_tokens
from fairplay_engine import GivenModel
from workloads import SETS, draw_examples, token_pairs

ROOT = Path(__file__).parents[1]
PEAK_FLOPS = 790e12  # of a bfloat16 matrix product, as measured on an H200
Note = Callable[..., None]
LLAMA_1B = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True}  # fmt: skip
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False}  # fmt: skip
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": True}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the parts run, and how large.

    Attributes:
        tiny: Small shapes and few steps.
    """

    tiny: bool

    @property
    def device(self) -> torch.device:
        """The GPU; a CPU will do for the small shapes."""
        return torch.device("cuda" if torch.cuda.is_available() or not self.tiny else "cpu")

    def model(self, shape: dict[str, Any], *, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> PreTrainedModel:
        """A Llama with random weights, made on the device; the same ones every time."""
        config = LlamaConfig(**((TINY if self.tiny else shape) | changes), max_position_embeddings=16_384)
        config._attn_implementation = changes.get("attn_implementation", "sdpa")
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with self.device:
                return LlamaForCausalLM(config).train()
        finally:
            torch.set_default_dtype(before)

    def examples(self, name: str, groups: int) -> tuple[EncodedExample, ...]:
        """Groups with lengths of a set; a tenth of them where all is small."""
        words, scale = (300, 0.1) if self.tiny else (LLAMA_1B["vocab_size"], 1.0)
        return draw_examples(name, int(words), groups=groups, scale=scale)

    def timed(self, step: Callable[[], object], repeats: int) -> dict[str, float]:
        """Seconds of a step, the least of several, and its peak memory over what is held, GiB; after two to warm up."""
        for _ in range(2):
            step()
        on_gpu = self.device.type == "cuda"
        held = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(1 if self.tiny else repeats):
            self.wait()
            start = time.perf_counter()
            step()
            self.wait()
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated() if on_gpu else 0
        return {"seconds": min(seconds), "gib_over_held": (peak - held) / 2**30, "peak_gib": peak / 2**30}

    def wait(self) -> None:
        """Until the device has done all that it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give memory back that nobody holds."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def kernel(place: Place, note: Note) -> None:
    """The tests of the real kernel, by pytest."""
    tests = str(ROOT / "tests/models/test_varlen.py")
    chosen = "the_call_fits" if place.tiny else "real_kernel or the_call_fits"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, "-k", chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    note(returncode=done.returncode, tail=done.stdout[-1500:] + done.stderr[-500:])
    if done.returncode:
        raise RuntimeError("tests of the kernel fail")


def equality(place: Place, note: Note) -> None:
    """Relative errors of log-probs and gradients in bfloat16, each layout beside eager attention in float32."""
    shape = LLAMA_1B | {"num_hidden_layers": 4, "vocab_size": 32_000}
    rows = example_rows(place.examples("k5", 2))
    exact = place.model(shape, dtype=torch.float32, attn_implementation="eager")
    model = place.model(shape)
    with torch.no_grad():
        for own, given in zip(model.parameters(), exact.parameters(), strict=True):
            own.copy_(given)
            given.copy_(own)
    truth = score_rows(exact, rows, tile=1024).logps
    truth.sum().backward()
    errors = {}
    for layout in ("padded", "packed", "shared"):
        model.zero_grad()
        logps = score_rows(model, rows, tile=1024, layout=layout).logps
        logps.sum().backward()
        wrong = [
            float((p.grad.float() - q.grad).norm() / q.grad.norm())
            for p, q in zip(model.parameters(), exact.parameters(), strict=True)
        ]
        errors[layout] = {
            "logps": float((logps - truth).detach().norm() / truth.detach().norm()),
            "gradient_mean": sum(wrong) / len(wrong),
            "gradient_max": max(wrong),
        }
        note(errors=errors)
    for layout in ("packed", "shared"):
        if errors[layout]["gradient_mean"] > 2 * errors["padded"]["gradient_mean"] + 1e-6:
            raise RuntimeError(f"{layout} rows err more than padded ones")


def waits(place: Place, note: Note) -> None:
    """What in the scoring, loss and backward of a step makes the host wait; nothing should."""
    engine = GivenModel(place.model(LLAMA_1B, num_hidden_layers=4), place.examples("uf", 4), layout="shared", lr=1e-6)
    engine.step()
    place.wait()
    found: list[str] = []
    if place.device.type == "cuda":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                engine.step(read_loss=False)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        found = [f"{w.filename}:{w.lineno} {w.message}" for w in caught if "synchroniz" in str(w.message)]
    note(waits=found, asked=place.device.type == "cuda")
    if found:
        raise RuntimeError(f"{len(found)} operations of a step wait")


def train_1b(place: Place, note: Note) -> None:
    """Training steps with AdamW."""
    _beside_peer(place, note, LLAMA_1B, lr=1e-6)


def train_8b(place: Place, note: Note) -> None:
    """Gradients of a step; TRL's has no room for AdamW beside them."""
    _beside_peer(place, note, LLAMA_8B, lr=None)


GROUPS = {"uf": 8, "longprompt": 8, "k5": 2}


def _beside_peer(place: Place, note: Note, shape: dict[str, Any], *, lr: float | None) -> None:
    try:
        import trl

        peer = f"trl {trl.__version__}"
    except ImportError as error:
        peer = f"fairplay's padded rows ({error})"
    note(peer=peer, gpu=torch.cuda.get_device_name() if place.device.type == "cuda" else "none")
    for name in SETS:
        examples = place.examples(name, 1 if place.tiny else GROUPS[name])
        found: dict[str, Any] = {"useful_tokens": num_input_tokens(examples)}
        for label, make in _engines(place, shape, examples, lr=lr, has_trl=peer.startswith("trl")).items():
            try:
                engine = make()
                found[label] = place.timed(engine.step, 3)
                if label == OURS:
                    found[label] |= {"mfu": engine.flops() / found[label]["seconds"] / PEAK_FLOPS}
                    found[label] |= {"tokens": engine.num_tokens}
            except Exception as error:  # noqa: BLE001 - most often no memory is left; told beside the others
                found[label] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            engine = None
            place.free()
            note(**{name: found | _ratios(found)})


OURS = "fairplay"


def _engines(
    place: Place, shape: dict[str, Any], examples: Sequence[EncodedExample], *, lr: float | None, has_trl: bool
) -> dict[str, Callable[[], Any]]:
    """How to make each engine, with a model of its own; fairplay's first."""

    def padded(budget: int) -> GivenModel:
        return GivenModel(place.model(shape), examples, layout="padded", budget=budget, lr=lr)

    def of_trl(pairs: int) -> Any:
        from trl_engine import TrlEngine
        from trl_modes import Mode

        mode, on_cpu = Mode(pairs=pairs, precomputed=True), place.device.type == "cpu"
        return TrlEngine(mode, token_pairs(examples), lambda: place.model(shape), bf16=False, on_cpu=on_cpu, lr=lr)

    peers = {f"TRL, {n} pairs, reference precomputed": partial(of_trl, n) for n in (1, 4)} if has_trl else {}
    rivals = {f"padded, budget {budget}": partial(padded, budget) for budget in ((8192,) if has_trl else (1, 8192))}
    return {OURS: lambda: GivenModel(place.model(shape), examples, layout="shared", lr=lr), **peers, **rivals}


def _ratios(found: dict[str, Any]) -> dict[str, Any]:
    """Speed and memory beside the fastest peer: TRL's modes where there are any."""
    measured = {label: known for label, known in found.items() if isinstance(known, dict) and "seconds" in known}
    own = measured.pop(OURS, None)
    rivals = {label: known for label, known in measured.items() if label.startswith("TRL")} or measured
    if own is None or not rivals:
        return {}
    best = min(rivals, key=lambda label: rivals[label]["seconds"])
    memory = own["gib_over_held"] / rivals[best]["gib_over_held"] if rivals[best]["gib_over_held"] else None
    return {"ratio": {"peer": best, "speed": rivals[best]["seconds"] / own["seconds"], "memory": memory}}


def full_8b(place: Place, note: Note) -> None:
    """All weights of an 8B trained by AdamW on rows of 8 192 tokens, on one GPU."""
    length = 96 if place.tiny else 8192
    rng = random.Random(0)
    ids = [tuple(rng.randrange(5, 300) for _ in range(size)) for size in (length // 2, length // 4, length // 4)]
    example = EncodedExample(TrainingExample("0", Prompt("0", ()), (), ((0, 1),)), ids[0], tuple(ids[1:]))
    model = place.model(LLAMA_8B)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for optim in ("adamw_torch_8bit", "adamw_torch_fused"):
        try:
            engine = GivenModel(model, (example,), layout="shared", budget=length, lr=5e-7, optim=optim)
            found = place.timed(engine.step, 2)
            note(optim=optim, row_tokens=length, mfu=engine.flops() / found["seconds"] / PEAK_FLOPS, **found)
            return
        except Exception as error:  # noqa: BLE001 - the next one may do: the one needs torchao, the other more memory
            note(**{f"{optim}_error": f"{type(error).__name__}: {str(error)[:300]}"})
            engine = None
            place.free()
    raise RuntimeError("no optimiser could train it")


def sppo_8b(place: Place, note: Note) -> None:
    """SPPO on five responses a prompt: all weights by RMSprop, as its authors, and LoRA by AdamW."""
    examples = place.examples("k5", 2)
    for kind in ("lora", "full"):
        model = place.model(LLAMA_8B)
        if kind == "lora":
            settings = AdapterSettings(lora_r=64, lora_alpha=64, lora_target_modules=("q_proj", "v_proj", "down_proj"))
            model = add_adapters(Policy(model, None, "memory"), settings).model
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        optim = "adamw_torch_fused" if kind == "lora" else "rmsprop"
        engine = GivenModel(model, examples, layout="shared", budget=8192, lr=5e-7, optim=optim, objective="sppo")
        note(**{kind: place.timed(engine.step, 2) | {"tokens": engine.num_tokens}})
        del engine, model
        place.free()


def generation(place: Place, note: Note) -> None:
    """The transformers engine: sampled tokens a second, five responses a prompt."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fairplay.generation.settings import GenerationSettings
    from fairplay.generation.transformers_engine import TransformersEngine
    from fairplay.records import Message
    from models.tiny import make_tokenizer

    tokenizer = make_tokenizer("starter")
    model = place.model(LLAMA_1B, vocab_size=max(512, len(tokenizer))).eval()
    prompts, new_tokens = (2, 8) if place.tiny else (48, 256)
    settings = GenerationSettings(num_responses=5, max_new_tokens=new_tokens, batch_size=5 * prompts)
    engine = TransformersEngine(Policy(model, tokenizer, "memory"), settings)
    asked = [Prompt(str(n), (Message("user", "what is the red cat? " * (1 + n % 4)),)) for n in range(prompts)]
    start = time.perf_counter()
    made = engine.respond(asked, [[5 * n + k for k in range(5)] for n in range(prompts)])
    place.wait()
    tokens = sum(len(response.token_ids) for group in made.groups for response in group.responses)
    seconds = time.perf_counter() - start
    note(tokens=tokens, seconds=seconds, tokens_per_second=tokens / seconds, rows=5 * prompts)


PARTS: dict[str, Callable[[Place, Note], None]] = {
    part.__name__: part for part in (kernel, equality, waits, train_1b, train_8b, full_8b, sppo_8b, generation)
}
