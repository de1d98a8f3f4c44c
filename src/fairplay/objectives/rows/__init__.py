"""The rows of the catalogue, by family. Floor 2."""
