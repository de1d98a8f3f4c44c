"""Capability benchmarks through lm-evaluation-harness: what alignment cost elsewhere."""
