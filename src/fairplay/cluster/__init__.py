"""Shards on many processes and machines by Ray: a model in each, for generation, ranking and judging. Floor 3."""
