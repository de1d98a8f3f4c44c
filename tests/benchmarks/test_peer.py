"""Engines in a second process take their turns there, and say what went wrong there."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPT = f'''
import sys
sys.path.insert(0, {str(FOLDER)!r})
from peer import serve

class Descent:
    """Of the sum of squares, half the way a step."""

    def __init__(self, start):
        self.weights = start

    def step(self):
        print("what others print is no answer")
        loss = sum(weight * weight for weight in self.weights)
        self.weights = [weight / 2 for weight in self.weights]
        return loss

    def reference_logps(self):
        return [self.weights]

class Hungry(Descent):
    def step(self):
        held = b"x" * 2**24
        for _ in range(1_000_000):
            pass
        return super().step()

engines = {{}}
kinds = {{"descent": Descent, "hungry": Hungry}}


def build(name, kind, start):
    engines[name] = kinds[kind](start)

serve(engines, build=build, end=lambda status: sys.exit(status))
'''


@pytest.fixture(scope="module", autouse=True)
def reachable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield


@pytest.fixture(scope="module")
def peer(reachable, tmp_path_factory):
    from peer import PeerProcess

    script = tmp_path_factory.mktemp("peer") / "script.py"
    script.write_text(SCRIPT)
    with PeerProcess(sys.executable, script) as process:
        yield process
    assert process.process.returncode == 0


def test_turns_of_another_process_go_on_from_each_other_and_are_measured_there(peer):
    from measuring import play_rounds
    from peer import PeerEngine

    for kind in ("descent", "hungry"):
        peer.ask("build", name=kind, kind=kind, start=[1.0, 2.0])
    engines = {kind: PeerEngine(peer, kind) for kind in ("descent", "hungry")}
    assert engines["descent"].reference_logps() == [(1.0, 2.0)]
    found = {}
    play_rounds({name: engine.turn for name, engine in engines.items()}, range(-1, 3), found)
    assert found["descent"].results == found["hungry"].results == [5.0, 1.25, 0.3125, 0.078125]
    assert min(found["hungry"].seconds) > 5 * max(found["descent"].seconds)
    assert min(found["hungry"].mib) > 15
    assert found["hungry"].mib_in_use > found["descent"].mib_in_use + 10
    assert len(found["hungry"].seconds) == 2


def test_what_goes_wrong_there_is_told_here_and_the_peer_goes_on(peer):
    from peer import PeerEngine

    with pytest.raises(RuntimeError, match=r"asked for build: [^$]*KeyError: 'unknown'"):
        peer.ask("build", name="x", kind="unknown", start=[1.0])
    peer.ask("build", name="x", kind="descent", start=[3.0])
    engine = PeerEngine(peer, "x")
    assert engine.turn(at_once=False).result == 9.0
    engine.close()
    with pytest.raises(RuntimeError, match=r"asked for turn: [^$]*KeyError: 'x'"):
        engine.turn(at_once=False)


def test_a_peer_that_ended_is_an_error_and_not_a_wait(tmp_path):
    from peer import PeerProcess

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with PeerProcess(sys.executable, script) as process:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ended with 3"):
                process.ask("end", status=3)


def test_each_version_of_trl_has_modes_with_names_of_their_own():
    from trl_modes import modes_of

    for version in ("0.24.0", "1.16.0"):
        names = [mode.name for mode in modes_of(version, has_liger=True, quick=False)]
        assert len(names) == len(set(names))
        assert {mode.name for mode in modes_of(version, has_liger=True, quick=True)} < set(names)
    assert not [mode for mode in modes_of("0.24.0", has_liger=False, quick=False) if mode.liger]
