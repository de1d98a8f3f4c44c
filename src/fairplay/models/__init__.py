"""Language models: loading, chat rendering, tokenisation, token log-probs, adapters, checkpoints. Floor 3."""
