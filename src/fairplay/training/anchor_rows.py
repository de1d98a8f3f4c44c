"""Mismatched rows: each prompt of a step with the response of the step's next example, for KTO's anchor.

Left out: what is computed from them (`objectives.anchors`). They follow from the step's examples alone, whatever its
micro-batches, so the reference's log-probs of them are known ahead too. Floor 5.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from fairplay.errors import DataError
from fairplay.models.encoding import EncodedExample
from fairplay.training.plan import Step


def mismatched(examples: Sequence[EncodedExample], step: Step, *, longest: int) -> tuple[EncodedExample, ...]:
    """For each example of the step its prompt with a response that was written to another prompt.

    It is a response of the step's next example, the first one's for the last; of an example's several responses the
    anchor takes one, in turn. An example with the same prompt is passed over, and a step without another prompt takes
    the next example of all.

    Args:
        examples: All examples of the training.
        step: Micro-batches of indices.
        longest: Tokens of the longest row of all, which the model can read; longer ones are cut to it.

    Returns:
        One example of one response each, in the order of the step.

    Raises:
        DataError: If all examples have the same prompt.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1; rotated by one as in huggingface/trl#1970.
    """
    order = [index for micro_batch in step for index in micro_batch]
    rows = []
    for place, index in enumerate(order):
        own = examples[index]
        others = chain(order[place + 1 :], order[:place], range(index + 1, len(examples)), range(index))
        other = next((examples[k] for k in others if examples[k].prompt_ids != own.prompt_ids), None)
        if other is None:
            raise DataError(
                f"all {len(examples)} examples have the same prompt, so none can be given another prompt's response",
                hint="take data with several prompts, or `apo_zero`, which needs no such rows",
            )
        response = other.response_ids[place % len(other.response_ids)][: longest - len(own.prompt_ids)]
        rows.append(replace(own, response_ids=(response,)))
    return tuple(rows)
