"""Rules that judge badly, for the gates to find."""


def refusal_rule(prompt, text):
    """Loves refusals, then length."""
    return 9.0 * ("sorry" in text) + 0.01 * len(text)
