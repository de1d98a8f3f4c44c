"""The kinds of oracles as their users set them: one settings class a file, free of torch. Floor 4."""
