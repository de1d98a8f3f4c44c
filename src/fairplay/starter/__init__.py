"""The embedded world: prompts with checkable responses, its exact judge, tiny models trained on the spot. Floor 6."""
