"""The raw text of the embedded world: disjoint sets of prompts, and responses of mixed quality to learn from.

Left out: training on it (`build.py`). Floor 6. Every example is drawn from a hash of (seed, its number).
"""

from collections.abc import Set
from random import Random

from fairplay.errors import SettingsError
from fairplay.records import Message, Prompt, Response, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.facts import FILLERS, HEDGES, OPENINGS, REFUSALS
from fairplay.starter.tasks import TASKS, Task, ask, every_prompt_text, sentence, task_of, terse

SHARE_REFUSAL = 0.06
SHARE_RIGHT = 0.75
SHARE_SENTENCE = 0.60
SHARE_HEDGE = 0.20
SHARE_FILLER_BEFORE = 0.25
SHARE_FILLER_AFTER = 0.30
"""Shares of the corpus; all but the first are among responses that are no refusals, and independent of each other.
After a filler comes another one with the same probability. They leave both content and style to gain."""


def prompt_of(text: str) -> Prompt:
    """The prompt with this text; its id follows from its text, so equal texts have equal ids."""
    task = task_of(text)
    kind = task.kind if task else "other"
    return Prompt(id=f"{kind}-{stable_seed('prompt', text):016x}", messages=(Message("user", text),))


def draw_prompts(num_prompts: int, *, seed: int, excluded: Set[str] = frozenset()) -> tuple[Prompt, ...]:
    """Prompts with different texts, kinds in turn, so that every stretch of them is a fair mixture.

    A kind of which no prompt is left is passed over (the facts have 200 each, sorting has 68,400).

    Args:
        num_prompts: How many.
        seed: Decides which.
        excluded: Texts that may not come up, such as those of the held-out prompts.

    Raises:
        SettingsError: If the world has fewer prompts than that.
    """
    rng = Random(stable_seed(seed, "prompts"))  # noqa: S311
    pools = [[text for text in every_prompt_text(name) if text not in excluded] for name in TASKS]
    for pool in pools:
        rng.shuffle(pool)
    texts: list[str] = []
    while len(texts) < num_prompts:
        live = [pool for pool in pools if pool]
        if not live:
            raise SettingsError(f"{num_prompts} prompts asked for; the embedded world has {len(texts)} left")
        texts += [pool.pop() for pool in rng.sample(live, len(live))]
    return tuple(prompt_of(text) for text in texts[:num_prompts])


def write_response(task: Task, rng: Random) -> str:
    """One response of the raw corpus: mostly right, often terse, hedged or full of filler, at times a refusal."""
    if rng.random() < SHARE_REFUSAL:
        return rng.choice(REFUSALS)
    kind = TASKS[task.kind]
    is_right = rng.random() < SHARE_RIGHT
    content = rng.choice(kind.right(task.arguments)) if is_right else kind.wrong(kind, task.arguments, rng)
    parts = [rng.choice(FILLERS)] if rng.random() < SHARE_FILLER_BEFORE else []
    parts += [rng.choice(HEDGES)] if rng.random() < SHARE_HEDGE else []
    parts += [sentence(task, content) if rng.random() < SHARE_SENTENCE else terse(task, content)]
    while rng.random() < SHARE_FILLER_AFTER:
        parts.append(rng.choice(FILLERS))
    return " ".join(parts)


def write_corpus(num_examples: int, *, seed: int, excluded: Set[str] = frozenset()) -> tuple[TrainingExample, ...]:
    """Supervised examples, one response each; kinds are equally frequent, prompts come up again and again.

    Args:
        num_examples: How many.
        seed: Decides all of them; the first n do not depend on `num_examples`.
        excluded: Prompt texts that may not come up.
    """
    return tuple(_corpus_example(index, seed, excluded) for index in range(num_examples))


def _corpus_example(index: int, seed: int, excluded: Set[str]) -> TrainingExample:
    rng = Random(stable_seed(seed, "corpus", index))  # noqa: S311
    text = ""
    while not text or text in excluded:
        name = rng.choice(tuple(TASKS))
        kind = TASKS[name]
        arguments = tuple(rng.choice(slot) for slot in kind.slots)
        if kind.distinct:
            arguments = tuple(rng.sample(kind.slots[0], len(kind.slots)))
        task = Task(name, arguments)
        text = ask(task, phrasing=rng.randrange(len(kind.asked)), opening=rng.randrange(len(OPENINGS)))
    response = Response(write_response(task, rng))
    return TrainingExample(id=f"sft-{index:06d}", prompt=prompt_of(text), responses=(response,))
