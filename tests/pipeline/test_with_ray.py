"""Ray for real: the bytes of a single process whatever the workers, their number, their deaths and the driver's."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairplay.cluster.ray_session import told_by_ray
from fairplay.errors import ResourceError
from fairplay.storage.settings_file import dump_yaml, read_yaml

from .conftest import SMALL_RUN

pytestmark = pytest.mark.slow
LOCAL = ("cluster.address=local", "cluster.num_workers=2")
RULE_CODE = """
import os, signal, time
from pathlib import Path

HERE = Path(__file__).parent


def score(prompt, text):
    if (HERE / "broken").exists() and prompt.id == "p3":
        raise ValueError("no score today")
    if (HERE / "deadly").exists() and prompt.id == "p70":
        if (HERE / "deadly").read_text() == "once":
            (HERE / "deadly").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (HERE / "slow").exists():
        time.sleep(0.03)
    return float(len(text))
"""


def command(*arguments, sets=()):
    return [sys.executable, "-m", "fairplay", *map(str, arguments), *(part for one in sets for part in ("--set", one))]


def run(*arguments, sets=(), **options):
    return subprocess.run(command(*arguments, sets=sets), capture_output=True, text=True, check=False, **options)


def processes_of(folder):
    """Command lines of the processes that work in a folder; Ray's own among them, their children too."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").resolve() == folder.resolve() and "defunct" not in (place / "stat").read_text():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has just ended, or is another user's
    return found


def ends(folder, seconds=40.0):
    """Whether all processes that work in a folder end in time."""
    limit = time.monotonic() + seconds
    while processes_of(folder) and time.monotonic() < limit:
        time.sleep(0.1)
    return processes_of(folder) == []


@pytest.fixture
def place(tmp_path):
    """A folder with a rule and 300 lines to rank in five shards, and what a single process makes of them."""
    (tmp_path / "my_rule.py").write_text(RULE_CODE)
    rows = [{"id": f"p{n}", "prompt": f"{n}?", "responses": ["x" * (n % 7), "y" * (n % 5)]} for n in range(300)]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(*ranked("alone.jsonl"), sets=RULE, cwd=tmp_path, env=environment()).returncode == 0
    return tmp_path


RULE = ("oracle.kind=rule", "oracle.function=my_rule:score")


def ranked(output):
    return ["rank", "--input", "lines.jsonl", "--output", output]


def environment():
    return {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}."}


def test_a_run_has_the_same_bytes_by_two_workers_and_by_none(world, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_yaml(read_yaml(world / "recipe.yaml")))
    few = ("num_iterations=1", "evaluation.canaries=[]", "evaluation.all_checkpoints=false")
    sets = (*SMALL_RUN, *few)
    by_two = run("run", recipe, "--out", tmp_path / "two", sets=(*sets, *LOCAL))
    assert by_two.returncode == 0, by_two.stderr
    assert run("run", recipe, "--out", tmp_path / "none", sets=sets).returncode == 0
    contents = [
        {
            str(path.relative_to(tmp_path / name)): json.loads(path.read_text())["content"]
            for path in sorted((tmp_path / name).glob("iteration-*/*/manifest.json"))
        }
        for name in ("two", "none")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8
    accounts = [json.loads(line) for line in (tmp_path / "two" / "workers.jsonl").read_text().splitlines()]
    assert [one["folder"].split("/", 1)[1] for one in accounts] == [
        "6-evaluation/responses",
        "2-responses",
        "3-preferences",
        "6-evaluation/responses",
        "6-evaluation/.verdicts/judge",
        "6-evaluation/.verdicts/oracle",
    ]
    assert all((one["num_workers"], one["num_deaths"]) == (2, 0) for one in accounts)
    assert "A worker that died cost time" in (tmp_path / "two" / "report" / "index.html").read_text()
    assert not (tmp_path / "none" / "workers.jsonl").exists()
    assert all(line.startswith("fairplay.") for line in by_two.stderr.splitlines()), by_two.stderr


@pytest.mark.parametrize("num_workers", [1, 4])
def test_responses_and_their_ranking_do_not_depend_on_the_number_of_workers(world, tmp_path, num_workers):
    settings = read_yaml(world / "recipe.yaml")
    prompts = [
        {"id": f"p{n}", "prompt": line["prompt"]}
        for n in range(10)
        for line in map(json.loads, (Path(settings["prompts"]["data"])).read_text().splitlines())
    ]
    prompts = [{**row, "id": f"q{n}"} for n, row in enumerate(prompts)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    arguments = ["generate", "--best-of", "3", "--model", settings["model"], "--input", tmp_path / "prompts.jsonl"]
    oracle = settings["oracle"]
    sets = [f"oracle.kind={oracle['kind']}", f"oracle.model={oracle['model']}", "generation.max_new_tokens=8"]
    workers = ("cluster.address=local", f"cluster.num_workers={num_workers}")
    assert run(*arguments, "--output", tmp_path / "none.jsonl", sets=sets).returncode == 0
    by_workers = run(*arguments, "--output", tmp_path / "workers.jsonl", sets=(*sets, *workers))
    assert (by_workers.returncode, by_workers.stderr) == (0, "")
    assert (tmp_path / "workers.jsonl").read_bytes() == (tmp_path / "none.jsonl").read_bytes()


def test_stops_kills_and_deaths_cost_nothing_and_leave_nobody(place):
    """First SIGTERM, then kill -9 of the driver, then a worker that is killed in the middle of a shard."""
    (place / "slow").touch()
    arguments = command(*ranked("out.jsonl"), sets=(*RULE, *LOCAL))
    parts = place / ".out.jsonl.shards"
    for number, wanted, code in ((signal.SIGTERM, 1, 75), (signal.SIGKILL, 2, -9)):
        driver = subprocess.Popen(
            arguments, cwd=place, env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        while driver.poll() is None and len(list(parts.glob("part-*"))) < wanted:
            time.sleep(0.02)
        os.kill(driver.pid, number)
        _, told = driver.communicate(timeout=60)
        assert driver.returncode == code, told
        assert ends(place), processes_of(place)
        assert len(list(parts.glob("part-*"))) >= wanted
    assert len(list(parts.glob("part-*"))) < 5
    (place / "slow").unlink()
    (parts / "part-00001.parquet").unlink(missing_ok=True)  # the shard with the prompt that a worker dies over
    (place / "deadly").write_text("once")
    last = run(*ranked("out.jsonl"), sets=(*RULE, *LOCAL), cwd=place, env=environment())
    assert last.returncode == 0, last.stderr
    assert not (place / "deadly").exists()
    assert last.stderr.startswith("fairplay.cluster.ray_executor: shard 1: its worker died on")
    assert last.stderr.count("\n") == 1
    told = run(*ranked("alone.jsonl"), sets=RULE, cwd=place, env=environment()).stdout
    assert last.stdout == told.replace("alone", "out")
    assert (place / "out.jsonl").read_bytes() == (place / "alone.jsonl").read_bytes()
    assert not parts.exists()
    assert ends(place), processes_of(place)


@pytest.fixture
def cluster(place):
    """A cluster of one machine that runs already; it knows nothing of the folder."""
    own = {
        **environment(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback alone
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    options = ["--num-cpus", "2", "--include-dashboard", "false", "--port", str(port), "--block"]
    head = subprocess.Popen(
        [ray, "start", "--head", *options],
        env=own,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any("--block" in line for line in head.stdout)  # it has started, and says why it does not return
        yield {**own, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        head.terminate()
        head.communicate(timeout=60)


def test_errors_of_workers_of_a_joined_cluster_are_those_of_one_process(place, cluster):
    joined = ("cluster.address=auto", "cluster.num_workers=2", "cluster.max_retries=1")

    def told(output, sets):
        done = run(*ranked(output), sets=(*RULE, *sets), cwd=place, env=cluster)
        return done.returncode, done.stderr

    assert told("joined.jsonl", joined)[0] == 0
    assert (place / "joined.jsonl").read_bytes() == (place / "alone.jsonl").read_bytes()
    (place / "broken").touch()
    (code, ours), (same_code, alone) = told("b.jsonl", joined), told("b.jsonl", ())
    assert (code, same_code) == (3, 3)
    assert alone.strip().splitlines()[-1] in ours
    assert "Traceback" not in ours
    (place / "broken").unlink()
    (place / "deadly").write_text("always")
    code, dead = told("c.jsonl", joined)
    assert code == ResourceError.exit_code, dead
    assert "shard 1: its worker died 2 times, the last time on" in dead
    assert "hint: mostly memory was too small" in dead
    (place / "deadly").unlink()
    assert told("c.jsonl", joined)[0] == 0
    assert (place / "c.jsonl").read_bytes() == (place / "alone.jsonl").read_bytes()
    code, many = told("d.jsonl", ("cluster.address=auto", "cluster.num_workers=5"))
    assert code == ResourceError.exit_code
    assert "5 with 1 CPU each, and the cluster has 2 CPU" in many

    unshared = "mkdir apart && mount -t tmpfs tmpfs apart && exec " + " ".join(
        command(*ranked("apart/out.jsonl"), sets=(*RULE, *joined))
    )
    namespace = ["unshare", "--mount", "sh", "-c", unshared]
    done = subprocess.run(namespace, cwd=place, env=cluster, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of one's own here: {done.stderr}")
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert "apart/.out.jsonl.shards: is not the same folder on" in done.stderr
    assert "a file system that all its machines share" in done.stderr


NEVER_STARTS = """
import os, signal
import pyarrow
from fairplay.cluster import ray_session
from fairplay.cluster.settings import ClusterSettings


class Dies:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, rows):
        return rows


ray_session._SECONDS_TO_START = 8
session = ray_session.RaySession(ClusterSettings(address="local", num_workers=1))
try:
    place = session.place(0, 1)
    print(list(session.map(pyarrow.table({"index": [0]}), Dies, {}, place, queued=2)))
except Exception as error:
    print(type(error).__name__, error)
finally:
    session.close()
"""


def test_workers_that_die_before_they_have_a_shard_end_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NEVER_STARTS], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert done.stdout.startswith("ResourceError Ray's workers did not all start within 8 seconds"), done
    assert ends(tmp_path)


def test_what_ray_raises_is_told_in_words():
    with pytest.raises(ResourceError, match="Ray gave up: no such head") as refusal, told_by_ray():
        raise ConnectionError("no such head\nand so on")
    assert "`ray status`" in refusal.value.hint
