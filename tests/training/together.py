"""Real processes that train together, for tests, each session of them given tasks: functions of this file.

`python -m training.together SIZE SESSIONS` forks SIZE ranks for each session, one after the other, once everything is
imported. A session is a list of tasks, a task [name, arguments]. `torchrun` starts the processes of one session apart.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from fairplay.errors import FairplayError, Preempted
from fairplay.models.loading import load_policy
from fairplay.objectives.table import OBJECTIVES, build_objective
from fairplay.training.distributed import current_ranks, shard
from fairplay.training.plan import Division
from fairplay.training.settings import TrainingSettings
from fairplay.training.trainable import make_trainable
from training.tiny import EXACT, run


def call(size, sessions):
    """Exit codes of the ranks of each session, and what they all wrote."""
    command = [sys.executable, "-m", "training.together", str(size), json.dumps(sessions)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def train(folder, start, exact=True, dtype="float32", nf4=False, ending=None, **options):
    """A training, with loading in float64 unless it is not `exact`.

    `ending` is (how, count): rank 0 is asked for the count-th time and "stop"s or is "kill"ed, rank 1 is killed when it
    writes for the count-th time ("kill writing"), or "fail"s on its own when it is asked.
    """
    asked, (how, count) = 0, ending or ("", 0)
    if how == "kill writing" and current_ranks().rank == 1:
        kill_at_fsync(count)

    def should_stop():
        nonlocal asked
        asked += 1
        if how == "kill" and asked == count and current_ranks().is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "fail" and asked == count and current_ranks().rank == 1:
            raise MemoryError("this rank alone")
        return how == "stop" and asked == count

    options["model_settings"] = EXACT if exact and not nf4 else replace(EXACT, dtype=dtype, load_in_4bit=nf4)
    with suppress(Preempted):
        run(Path(folder), start, should_stop=should_stop, **options)


def kill_at_fsync(count):
    left, fsync = count, os.fsync

    def flush(descriptor):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = flush


def placements(path, start):
    """What the parameters of sharded models are on each rank: for each kind of training its kinds of parameters."""
    ranks, found = current_ranks(), {}
    for name, options in (("whole", {}), ("lora", {"use_peft": True}), ("copies", {"dp_replicate_size": ranks.size})):
        settings = TrainingSettings(**options)
        model = make_trainable(load_policy(start, EXACT), settings, seed=0).model
        shard(model, ranks, copies=settings.dp_replicate_size)
        found[name] = sorted({f"{type(p).__name__} {getattr(p, 'placements', '')}" for p in model.parameters()})
    Path(f"{path}-{ranks.rank}").write_text(json.dumps(found))
    ranks.barrier()  # the first must not leave while others still connect


def refused(folder, start, name, **options):
    """A training that must fail in every rank; writes what each was told."""
    try:
        run(Path(folder) / name, start, **options)
    except FairplayError as error:
        (Path(folder) / f"{name}-{current_ranks().rank}").write_text(error.message)
        return
    raise AssertionError("nothing was refused")


def gradients(path, start):
    """For every objective the largest difference between the gradient of a shared step and that of a whole one."""
    from training import test_stepping as stepping

    ranks = current_ranks()
    scored = stepping.score_start(start)
    sharded = stepping.load_policy(start, EXACT).model
    shard(sharded, ranks)
    examples = scored[1]
    division = Division(
        names=tuple(example.example.id for example in examples),
        tokens=tuple(len(example.prompt_ids) + sum(map(len, example.response_ids)) for example in examples),
        work=tuple(float(sum(map(len, example.response_ids))) for example in examples),
        batch_size=2,
        num_ranks=ranks.size,
    )
    found = {}
    for name in OBJECTIVES:
        alone = stepping.learner_of(
            build_objective(name, {}), scored, shift=0.1, prompt_loss_weight=0.1 * (name == "sft")
        )
        expected, gradient, metrics = stepping.gradient_of(alone, stepping.WHOLE, number=3)
        shared = replace(alone, model=sharded, divide=division.shares, ranks=ranks)
        outcome, parts, of_ranks = stepping.gradient_of(shared, stepping.SPLIT, number=3)
        found[name] = {
            "gradient": (parts - gradient).abs().max().item() / max(1.0, gradient.abs().max().item()),
            "loss": abs(outcome.loss.item() - expected.loss.item()) / max(1.0, abs(expected.loss.item())),
            "state": max(
                (abs(float(outcome.state[key]) - float(value)) for key, value in expected.state.items()), default=0.0
            ),
            "metrics": [key for key in metrics if not _is_near(of_ranks[key], metrics[key]) and key != "loss"],
            "tokens": abs(outcome.num_tokens - expected.num_tokens),
        }
    if ranks.is_first:
        Path(path).write_text(json.dumps(found))


def _is_near(one, other):
    return one == other or abs(one - other) < 1e-9 * max(1.0, abs(other))


def join(rank, size, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")


def perform(tasks):
    for name, arguments in tasks:
        {"train": train, "refused": refused, "gradients": gradients, "placements": placements}[name](**arguments)
    dist.destroy_process_group()


def _rank(rank, size, tasks, port):
    join(rank, size, port)
    perform(tasks)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _session(size, tasks):
    port, children = free_port(), []
    for rank in range(size):
        child = os.fork()
        if not child:
            try:
                _rank(rank, size, tasks, port)
            except BaseException as error:
                print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def torchrun(size, tasks):
    """The tasks in processes that torchrun starts."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    command = [*launcher, "-m", "training.together", "torchrun", json.dumps(tasks)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    if sys.argv[1] == "torchrun":
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
        perform(json.loads(sys.argv[2]))
        sys.exit()
    for tasks in json.loads(sys.argv[2]):
        print(json.dumps(_session(int(sys.argv[1]), tasks)), flush=True)
