import pytest

from fairplay.errors import Preempted
from fairplay.records import Dropped
from fairplay.storage.shards import HERE, part_path, read_dropped, read_parts, run_sharded

ITEMS = [str(i) for i in range(10)]


class Worker:
    """Passes even items on, leaves odd ones out, and stops or dies where told to; it is its own work."""

    def __init__(self, die_at=None, facts=None):
        self.seen, self.die_at, self.facts = [], die_at, facts or {}
        self.starts = self.ends = 0

    def start(self):
        self.starts += 1
        return self

    def close(self):
        self.ends += 1

    def do(self, items):
        if self.die_at in items:
            raise RuntimeError("killed")
        self.seen += items
        return [Dropped(i, "even") for i in items if int(i) % 2 == 0], [Dropped(i, "odd") for i in items if int(i) % 2]


def run(folder, worker, stop=lambda: False, executor=HERE):
    return run_sharded(
        folder, ITEMS, worker, Dropped, executor=executor, shard_size=3, description="work", should_stop=stop
    )


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


def test_one_worker_does_all_shards_and_is_ended_whatever_happens(tmp_path):
    worker, broken = Worker(), Worker(die_at="4")
    run(tmp_path / "whole", worker)
    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", broken)
    assert (worker.starts, worker.ends) == (broken.starts, broken.ends) == (1, 1)


def test_finished_work_starts_no_worker_and_is_still_known_by_its_facts(tmp_path):
    assert run(tmp_path, Worker(facts={"temperature": 0.1 + 0.2})) == {"temperature": 0.1 + 0.2}
    again = Worker()
    assert run(tmp_path, again) == {"temperature": 0.1 + 0.2}
    assert again.starts == 0
    assert (
        run_sharded(
            tmp_path / "empty",
            [],
            again,
            Dropped,
            executor=HERE,
            shard_size=3,
            description="",
            should_stop=lambda: False,
        )
        == {}
    )
    assert again.starts == 0


def test_shards_that_finish_in_another_order_make_the_same_files(tmp_path):
    class Backwards:
        def run(self, work, shards, folder):
            yield from HERE.run(work, shards[::-1], folder)

    run(tmp_path / "forwards", Worker())
    polls = iter([False, False, True])
    with pytest.raises(Preempted, match="4 of 10"):
        run(tmp_path / "backwards", Worker(), stop=lambda: next(polls), executor=Backwards())
    assert [part_path(tmp_path / "backwards", number).exists() for number in range(4)] == [False, False, True, True]
    again = Worker()
    run(tmp_path / "backwards", again)
    assert again.seen == ["0", "1", "2", "3", "4", "5"]
    one, other = (sorted(path.read_bytes() for path in (tmp_path / n).iterdir()) for n in ("forwards", "backwards"))
    assert one == other
