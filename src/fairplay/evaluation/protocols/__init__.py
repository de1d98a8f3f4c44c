"""Published judge protocols: what is asked in which order, how replies are read, what is reported. Floor 5."""
