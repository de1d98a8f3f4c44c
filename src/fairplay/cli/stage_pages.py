"""How a training and an evaluation are told to a person; everything else is in their JSON.

Left out: the whole loop's table (`loop_verbs.py`). Floor 8.
"""

from collections.abc import Mapping
from typing import Any

from fairplay.cli.printing import headline_rows, print_record, print_table, rate
from fairplay.wording import plural

MARGIN_WORDS: Mapping[str, str] = {
    "logps": "log-prob",
    "mean_logps": "log-prob per token",
    "implicit_rewards": "implicit reward",
}


def _accuracy(values: Mapping[str, Any]) -> str:
    return rate(values["accuracy"], values["accuracy_ci"])


def training_page(done: Mapping[str, Any]) -> None:
    """What was read, what was learnt, and the accuracy on held-out pairs before and after."""
    data, training = done["data"], done["training"]
    print_record(
        {
            "data": f"{data['source']}: {data['format']}",
            "rows": f"{data['num_in']} read, {data['num_out']} to train on",
            "left out in reading": data["dropped"],
            "left out in training": training["dropped"],
            "objective": " ".join(f"{key}={value}" for key, value in done["objective"].items()),
            "loss": f"{training['first_loss']:.4g} -> {training['last_loss']:.4g} in "
            + plural(training["steps"], "step"),
            "model": done["model"],
        }
    )
    held_out = training["held_out"]
    if not held_out:
        return
    rows = [
        (words, _accuracy(held["before"]), _accuracy(held["after"]), _change(held["change"]))
        for kind, words in MARGIN_WORDS.items()
        for held in [held_out[kind]]
    ]
    number = plural(held_out["num_pairs"], "pair")
    title = f"\nheld-out pairs that the policy orders as the annotator did ({number}; p by Holm)"
    print_table(("by", "before", "after", "change in points"), rows, title=title)


def _change(change: Mapping[str, Any]) -> str:
    value, low, high = (100 * share for share in (change["difference"], *change["difference_ci"]))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}], p = {change['p_value_holm']:.3f}"


def ranking_page(done: Mapping[str, Any]) -> None:
    """What was compared, and what the preferences are worth: the report's own words."""
    from fairplay.reports.audit_table import audit_rows

    print_record({key: value for key, value in done.items() if key != "audit"})
    rows = [(row.title, *row.values, row.meaning) for row in audit_rows([done["audit"]])]
    print_table(("preferences", "", "what it means"), rows, title="")


def accuracy_page(done: Mapping[str, Any]) -> None:
    """Accuracy of a policy on preference pairs, by each kind of margin."""
    print_record({"policy": done["policy"], "data": f"{done['data']}: {done['format']}", "left out": done["dropped"]})
    kinds = {kind: words for kind, words in MARGIN_WORDS.items() if kind in done}
    rows = [
        (words, _accuracy(done[kind]), done[kind]["num_pairs"], done[kind]["ties"]) for kind, words in kinds.items()
    ]
    print_table(("ordered right, by", "accuracy", "pairs", "ties"), rows, title="\npreference accuracy")


def _points(done: Mapping[str, Any], name: str) -> str:
    if done[name] is None:
        return "too few prompts won or lost to say"
    low, high = done[f"{name}_ci"]
    return f"{100 * done[name]:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _variance(done: Mapping[str, Any]) -> str:
    between, within = done["variance_between_prompts"], done["variance_within_prompts"]
    return "one sample a prompt can't tell" if between is None else f"{between:.4f}, {within:.4f}"


def comparison_page(done: Mapping[str, Any]) -> None:
    """Win rate of one side against the other, with what a reader must know."""
    print_record(
        {
            "policy": done["policy"],
            "opponent": done["opponent"],
            "judge": done["judge"],
            **headline_rows(done, done),
            "prompts won, tied, lost": f"{done['wins']}, {done['ties']}, {done['losses']} of {done['n']}",
            f"mean length in {done['length_unit']}": (
                f"{done['mean_length']:.1f} against {done['opponent_mean_length']:.1f}"
            ),
            "p-value of no difference": f"{done['p_value']:.3g}",
            "smallest gap found in 80 %": f"{100 * done['minimum_detectable_gap']:.1f} points from 50 %",
            "same winner in both orders": f"{100 * done['position_consistency']:.1f} % of the games",
            "being shown first is worth": _points(done, "first_position_bias"),
            "of the win rate, with length": _points(done, "length_effect"),
            "variance between, within prompts": _variance(done),
            "left out": done["dropped"],
        }
    )
    for note in done["notes"]:
        print(f"- {note}")
    print_alarms(done["gates"], told=done.get("headline_withheld", ""))


def print_alarms(gates: Mapping[str, Any], *, told: str = "") -> None:
    """What the honesty gates found that speaks against a result, a line each, unless `told` says it."""
    if gates.get("oracle_is_judge"):
        print("ALARM: the training oracle is its own judge")
    for canary in gates.get("canaries", ()):
        if canary["alarm"] and canary["alarm"] not in told:
            print(f"ALARM: {canary['alarm']}")
    seen = gates.get("overlap", {})
    if number := seen.get("num_equal", 0):
        print(f"WARNING: {number} of {seen['num_held_out']} evaluation prompts were trained on")
    if number := seen.get("num_contained", 0):
        print(f"WARNING: {number} of {seen['num_held_out']} evaluation prompts are near copies of training prompts")
