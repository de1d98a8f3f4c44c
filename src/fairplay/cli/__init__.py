"""The command line: parse, call, print. Verbs hold no logic of their own. Floor 8."""
