"""What `fairplay verify` finds wrong in a folder."""

from fairplay.pipeline.verifying import verify

from .schema import check


def wrong(folder):
    """What -> what is told of it, of every check that does not agree."""
    done = verify(folder)
    check(done)
    found = {one["what"]: one["told"] for one in done["checks"] if not one["agrees"]}
    assert done["agrees"] == (not found)
    return found
