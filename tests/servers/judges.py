"""Judges for the fault server: they read a question, and answer in its form."""

import math
import re

_PARTS = (
    re.compile(r"<response A \w+>\n(.*?)\n</response A .*<response B \w+>\n(.*?)\n</response B ", re.DOTALL),
    re.compile(r"<answer of assistant A \w+>\n(.*?)\n</answer .*assistant B \w+>\n(.*?)\n</answer ", re.DOTALL),
    re.compile(r"(?:Response|Summary) A:\n(.*?)\n\n(?:Response|Summary) B:\n(.*?)\n\nFIRST", re.DOTALL),
    re.compile(r'"m",\n\s+"output": """(.*?)""".*"M",\n\s+"output": """(.*?)"""', re.DOTALL),
)  # fmt: skip


def parts_of(question):
    """The two responses that a question shows."""
    return next(found.groups() for pattern in _PARTS if (found := pattern.search(question)))


def length_judge(bias=0.0, scale=10.0):
    """Likes the longer response: logit (len first - len second) / scale + bias."""

    def talk(body):
        question = body["messages"][-1]["content"]
        first, second = parts_of(question)
        logit = (len(first) - len(second)) / scale + bias
        one, other = -math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))
        better = one >= other
        if '"m"' in question:
            names = ("m", "M")
        elif "Preferred:" in question or "More helpful:" in question:
            label = "Preferred" if "Preferred:" in question else "More helpful"
            return said(f"Comparison: A and B differ.\n{label}: {'A' if better else 'B'}")
        elif "assistant A" in question:
            verdict = "A>B" if 0 < logit <= 1 else "A>>B" if logit > 1 else "B>A" if -1 <= logit < 0 else "B>>A"
            return said(f"My own answer is longer. [[{verdict if logit else 'A=B'}]]")
        else:
            names = ("A", "B")
        top = [{"token": names[0], "logprob": one}, {"token": names[1], "logprob": other}]
        return {**said(names[0] if better else names[1]), "logprobs": [{**top[not better], "top_logprobs": top}]}

    return talk


def said(text):
    """A reply in words."""
    return {"text": text, "logprobs": None, "finish_reason": "stop"}
