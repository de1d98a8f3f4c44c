"""From responses to numbers with intervals: judging, win rates, length control. Floor 5."""
