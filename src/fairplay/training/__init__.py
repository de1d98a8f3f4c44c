"""From examples to a checkpoint: batches, objective, optimiser step, metrics, resume; one loop. Floor 5."""
