"""Made-up contents for the report's tests, and a reader of its page."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

from fairplay.records import EvaluationResult, Interval, Message
from fairplay.reports.contents import (
    Evaluation,
    HeldOutLengths,
    IterationContents,
    ReportContents,
    Sample,
    StageAccount,
    Verdict,
)

UNDEFINED = Interval(math.nan, math.nan, math.nan)


def around(value, half=0.05):
    return Interval(value, value - half, value + half)


def result(**changes):
    fields = {
        "policy": "iteration",
        "opponent": "start",
        "judge": "exact judge",
        "num_prompts": 200,
        "num_judgements": 400,
        "win_rate": around(0.64),
        "lc_win_rate": around(0.62),
        "wins": 120,
        "ties": 16,
        "losses": 64,
        "position_consistency": 0.95,
        "first_position_bias": 0.01,
        "mean_length": 21.5,
        "opponent_mean_length": 20.5,
        "overlap": 0.4,
    }
    return EvaluationResult(**{**fields, **changes})


def evaluation(role="judge", **changes):
    return Evaluation(role, result(**{"judge": "exact judge" if role == "judge" else "learned oracle", **changes}))


def metrics(num_steps=20, chosen_slope=0.0):
    return tuple(
        {
            "step": float(step),
            "loss": 0.7 - 0.01 * step,
            "rewards/chosen": 0.01 * step,
            "rewards/rejected": -0.02 * step,
            "rewards/margins": 0.03 * step,
            "rewards/accuracies": 0.5 + 0.01 * step,
            "logps/chosen": -10.0 + chosen_slope * step + 0.1 * math.sin(step),
            "logps/rejected": -11.0 - 0.1 * step,
            "length/chosen": 14.0,
            "length/rejected": 12.0,
        }
        for step in range(1, num_steps + 1)
    )


def iteration(number=1, *, evaluations=None, **changes):
    made = IterationContents(
        iteration=number,
        evaluations=(evaluation(), evaluation("oracle", win_rate=around(0.66))) if evaluations is None else evaluations,
        held_out=HeldOutLengths(tuple(10 + (7 * place) % 13 for place in range(50)), 0.01),
        metrics=metrics(),
        audit={"order_flip_rate": 0.123, "length_correlation": -0.25, "num_groups": 1234.0, "something_new": 0.5},
        stages=(
            StageAccount("responses", 100, 100, {}, 3.25, 4321),
            StageAccount("examples", 1000, 997, {"tie": 2, "too long": 1}, 65.0, 0),
        ),
        oracle_gaps={"start": around(0.02)},
    )
    return replace(made, **changes)


def sample(number=0, **changes):
    made = Sample(
        prompt_id=f"prompt-{number}",
        iteration=1,
        sample=0,
        messages=(Message("user", f"Question {number}?"),),
        policy="iteration 1",
        policy_text=f"Policy text {number}.",
        policy_length=5,
        opponent="start policy",
        opponent_text=f"Opponent text {number}.",
        opponent_length=4,
        verdicts=(Verdict("judge", 0.7, 0.6), Verdict("oracle", 0.4, 0.3)),
    )
    return replace(made, **changes)


def contents(**changes):
    made = ReportContents(
        run="trial",
        seed=3,
        objective="SPPO",
        judge="exact judge",
        oracle="learned oracle",
        settings="name: trial\nseed: 3\n",
        start=HeldOutLengths(tuple(9 + place % 9 for place in range(50)), 0.0),
        iterations=(iteration(1), iteration(2)),
        samples=tuple(sample(number) for number in range(30)),
    )
    return replace(made, **changes)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, visible text, and the samples."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.scripts = []
        self.styles = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if self._inside:
            (self.scripts if tag == "script" else self.styles).append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside:
            (self.scripts if self._inside == "script" else self.styles)[-1] += data
        else:
            self.text += data

    @property
    def words(self):
        return " ".join(self.text.split())

    @property
    def samples(self):
        kinds = [attributes.get("type") for tag, attributes in self.elements if tag == "script"]
        return json.loads(self.scripts[kinds.index("application/json")])
