"""The log on stderr says what a user has to know, once or a few times."""

import logging

import pytest

from fairplay.cli.logs import NUM_ALIKE, FewAlike


@pytest.fixture
def told(caplog):
    caplog.handler.addFilter(few := FewAlike())
    yield lambda: [record.getMessage() for record in caplog.records]
    caplog.handler.removeFilter(few)


def test_a_thousand_warnings_of_one_wording_are_few_lines_and_the_last_one_says_so(told):
    logger = logging.getLogger("fairplay.test")
    for number in range(1000):
        logger.warning("prompt %d dropped: %s", number, "too long")
    assert len(told()) == NUM_ALIKE
    assert told()[0] == "prompt 0 dropped: too long"
    assert told()[-1].startswith(f"prompt {NUM_ALIKE - 1} dropped: too long (more")
    assert "--verbose" in told()[-1]


def test_what_is_worded_otherwise_and_what_stops_a_command_is_always_told(told):
    logger = logging.getLogger("fairplay.test")
    for number in range(NUM_ALIKE + 1):
        logger.error("shard %d failed", number)
        logger.warning("one of a hundred wordings, " + "again " * number)
        logger.warning("%s", f"as it comes: {number}")
        logging.getLogger(f"fairplay.room{number}").warning("prompt %d dropped", number)
    assert len(told()) == 4 * (NUM_ALIKE + 1)
