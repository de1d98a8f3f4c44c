"""Who responds: engines behind one contract. Floor 4."""
