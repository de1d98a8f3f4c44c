"""Long work is never silent: away from a terminal, a plain line now and then."""

import logging

from fairplay import progress


def lines(caplog, *, total, done):
    caplog.clear()
    with caplog.at_level(logging.INFO, "fairplay.progress"), progress.progress("training", total) as counter:
        for _ in range(done):
            counter.advance()
    assert counter.done == done
    return [record.getMessage() for record in caplog.records]


def test_work_away_from_a_terminal_tells_how_far_it_is_and_what_is_left(caplog, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_A_LINE", 0.0)
    told = lines(caplog, total=3, done=3)
    assert [line.partition(",")[0] for line in told] == ["training: 1 of 3", "training: 2 of 3"]
    assert all(line.endswith(" s left") for line in told)


def test_short_work_has_no_line(caplog):
    assert lines(caplog, total=1000, done=1000) == []
