"""Single stages on their own inputs and outputs, for people who bring one part of the pipeline themselves.

Left out: the stages of a run (`stages.py`), offline training (`offline.py`). Floor 7.
"""

from pathlib import Path
from typing import Any

from fairplay.data.reading import read_prompts
from fairplay.data.writing import write_examples
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import build_engine
from fairplay.models.settings import ModelSettings
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import build_oracle
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import group_of_line, line_of_group, preferences_of_line, read_lines, write_lines
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.selection import select_examples
from fairplay.preferences.settings import SelectionSettings
from fairplay.preferences.win_matrix import group_logits, win_matrix
from fairplay.preferences.win_rates import win_rates
from fairplay.seeds import stable_seed


def generate_file(
    model: str, source: str, output: Path, *, generation: GenerationSettings, loading: ModelSettings, seed: int
) -> dict[str, Any]:
    """K responses of a model to every prompt of a source, as JSON lines.

    Returns:
        Counts: prompts read, groups written, dropped by reason, tokens.
    """
    loaded = read_prompts(source)
    seeds = [
        [stable_seed(seed, "generate", prompt.id, k) for k in range(generation.num_responses)]
        for prompt in loaded.items
    ]
    generated = build_engine(generation, model, loading).respond(loaded.items, seeds)
    write_lines(output, map(line_of_group, generated.groups))
    responses = [response for group in generated.groups for response in group.responses]
    return {
        "format": loaded.format,
        "num_in": len(loaded.items) + len(loaded.dropped),
        "num_out": len(generated.groups),
        "dropped": count_reasons([*loaded.dropped, *generated.dropped]),
        "num_cut_at_length": sum(response.finish_reason == "length" for response in responses),
        "tokens": sum(len(response.token_ids) for response in responses),
        "output": str(output),
    }


def rank_file(source: Path, output: Path, *, oracle: OracleSettings, selection: SelectionSettings) -> dict[str, Any]:
    """Let an oracle compare every ordered pair of responses of every line.

    Every line gets `pair_logits_ab` (entry [i][j]: i shown first, j second), `win_probs` and `win_rates` by the rule
    of `selection`, `truncated`, and the oracle's name and temperature.

    Returns:
        Counts, and the audit of the preferences.
    """
    lines = read_lines(source)
    groups = [group_of_line(line, f"{source}: line {number}") for number, line in enumerate(lines, start=1)]
    judge = build_oracle(oracle)
    compared = judge.pair_logits(groups)
    ranked = []
    for line, preferences in zip(lines, compared, strict=True):
        probs = win_matrix(group_logits(preferences), rule=selection.rule, temperature=judge.temperature)
        rates = win_rates(probs, opponents=selection.opponents) if len(probs) > 1 else probs.diagonal()
        ranked.append(
            {
                **line,
                "oracle": judge.name,
                "temperature": judge.temperature,
                "pair_logits_ab": [list(row) for row in preferences.pair_logits],
                "win_probs": probs.tolist(),
                "win_rates": rates.tolist(),
                "truncated": list(preferences.truncated),
            }
        )
    write_lines(output, ranked)
    audit = audit_preferences(compared, temperature=judge.temperature)
    return {"num_in": len(lines), "num_out": len(ranked), "audit": audit, "output": str(output)}


def select_file(source: Path, output: Path, *, selection: SelectionSettings, seed: int) -> dict[str, Any]:
    """Training examples from ranked lines, in a format that `fairplay train` and others read.

    Returns:
        Counts: lines read, examples written, dropped by reason.
    """
    lines = read_lines(source)
    groups = [preferences_of_line(line, f"{source}: line {number}") for number, line in enumerate(lines, start=1)]
    temperatures = {float(line.get("temperature", 1.0)) for line in lines}
    selected = [
        select_examples(
            [group for group, line in zip(groups, lines, strict=True) if float(line.get("temperature", 1.0)) == value],
            selection,
            temperature=value,
            seed=seed,
        )
        for value in sorted(temperatures)
    ]
    examples = [example for part in selected for example in part.examples]
    write_examples(examples, output)
    dropped = count_reasons([item for part in selected for item in part.dropped])
    return {"num_in": len(lines), "num_out": len(examples), "dropped": dropped, "output": str(output)}
