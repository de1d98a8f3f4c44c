"""The mathematics of preferring: win matrices, win rates, selection of training examples, audit. Floor 2."""
