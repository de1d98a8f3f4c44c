import pytest

from fairplay.errors import Preempted
from fairplay.records import Dropped
from fairplay.storage.shards import read_dropped, read_parts, run_sharded

ITEMS = [str(i) for i in range(10)]


class Worker:
    """Passes even items on, leaves odd ones out, and stops or dies where told to."""

    def __init__(self, die_at=None):
        self.seen, self.die_at = [], die_at

    def __call__(self, items):
        if self.die_at in items:
            raise RuntimeError("killed")
        self.seen += items
        return [Dropped(i, "even") for i in items if int(i) % 2 == 0], [Dropped(i, "odd") for i in items if int(i) % 2]


def run(folder, worker, stop=lambda: False):
    run_sharded(folder, ITEMS, worker, Dropped, shard_size=3, description="work", should_stop=stop)


def test_a_kill_loses_only_the_shard_in_flight(tmp_path):
    run(tmp_path / "whole", Worker())
    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", Worker(die_at="7"))
    again = Worker()
    run(tmp_path / "broken", again)
    assert again.seen == ["6", "7", "8", "9"]
    whole, broken = (sorted(p for p in (tmp_path / n).iterdir()) for n in ("whole", "broken"))
    assert [p.name for p in whole] == [p.name for p in broken]
    assert [p.read_bytes() for p in whole] == [p.read_bytes() for p in broken]


def test_nothing_is_lost_without_a_record(tmp_path):
    run(tmp_path, Worker())
    assert [r.id for r in read_parts(tmp_path, Dropped)] == ["0", "2", "4", "6", "8"]
    assert [r.id for r in read_dropped(tmp_path)] == ["1", "3", "5", "7", "9"]


def test_a_stop_between_shards_keeps_what_is_done(tmp_path):
    answers = iter([False, True])
    with pytest.raises(Preempted, match="3 of 10"):
        run(tmp_path, Worker(), stop=lambda: next(answers))
    assert len(read_parts(tmp_path, Dropped)) == 2
