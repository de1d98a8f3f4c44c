"""The whole loop: run settings, stages that fill one folder each, and the self-play iteration. Floor 7."""
