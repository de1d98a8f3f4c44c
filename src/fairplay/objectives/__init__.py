"""The mathematics of learning from preferences: one evaluator, and a table of published objectives. Floor 2."""
