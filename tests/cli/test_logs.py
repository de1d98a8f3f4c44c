"""The log on stderr says what a user has to know, once or a few times."""

import logging

import pytest

from fairplay.cli.logs import NUM_ALIKE, NUM_REASONS, FewAlike
from fairplay.evaluation.canaries import Canary
from fairplay.pipeline.canary_games import tell_alarms
from fairplay.pipeline.stages import warn_of_losses


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


def test_each_reason_is_told_though_another_one_of_its_wording_was_told_often(told):
    logger = logging.getLogger("fairplay.test")
    for number in range(1000):
        logger.warning("prompt %s, responses %d and %d: %s", f"p{number}", 0, 1, f"p{number}: HTTP error 503")
    logger.warning("prompt %s, responses %d and %d: %s", "p7", 0, 1, "the reply has no label")
    assert len(told()) == NUM_ALIKE + 1
    assert told()[-1] == "prompt p7, responses 0 and 1: the reply has no label"


def test_reasons_without_end_are_few_lines_too(told):
    logger = logging.getLogger("fairplay.test")
    for number in range(1000):
        logger.warning("judge failed on prompt %s: %s", number, "returned " + "ab"[number % 2] * (1 + number % 500))
    assert len(told()) < NUM_ALIKE * (NUM_REASONS + 1)


def test_numbers_alone_are_no_wording(told):
    logger = logging.getLogger("fairplay.test")
    for number in range(2 * NUM_ALIKE):
        logger.warning("%d", number)
        logger.warning("%5.2f %%", number)
        logger.warning("%-8s %+d", number, number)
    assert len(told()) == 6 * NUM_ALIKE


def test_every_alarm_and_every_iterations_loss_is_told(told):
    number = 2 * NUM_ALIKE
    for iteration in range(1, number + 1):
        warn_of_losses(iteration, 10, 2, {"no pair": 8})
    assert told()[-1] == f"iteration {number} trains on 2 examples of 10 prompts: selection left out 8 (8 x no pair)"
    tell_alarms([Canary("dot", 10, None, alarm="The canary “a single full stop” wins.")] * number)
    assert told()[-1] == "judge: The canary “a single full stop” wins."
    assert len(told()) == 2 * number
