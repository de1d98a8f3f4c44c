"""Data that users bring: prompts, preference pairs and conversations in the formats found in the wild. Floor 2."""
