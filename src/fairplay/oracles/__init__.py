"""Who prefers: preference oracles behind one contract. Floor 4."""
