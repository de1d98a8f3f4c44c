"""A chat server of our own: a command started on a free port of this machine, waited for, and stopped.

It ends with this process, however that ends. Left out: what is served and asked. Floor 3.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from contextlib import suppress
from typing import IO

from fairplay.errors import ServiceError, SettingsError

MODEL, PORT = "{model}", "{port}"
TO_STOP = 30.0
_POLL = 0.2
_SHOWN_LINES, _SHOWN_BYTES = 5, 4000
_READY = ("/health", "/v1/models")  # the first of them where a server has it
# The server asks Linux for SIGTERM at the death of its parent (PR_SET_PDEATHSIG, 1), then becomes the command.
_BOUND = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class HostedServer:
    """A server that is ready, until `stop`.

    Args:
        process: Leader of its process group.
        log: What it writes.
        url: Where it is asked, `/v1` included.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes], url: str) -> None:
        self.process, self.url, self._log = process, url, log
        self._finish = weakref.finalize(self, _end, process, log)

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """How it ended, if it did, and the last lines that it wrote."""
        return _last_words(self.process, self._log)

    def stop(self) -> None:
        """End it and all that it started; a second call does nothing."""
        self._finish()


def words_of(command: str, *, model: str, port: int) -> list[str]:
    """The command's words, with model and port in their places; no shell reads them.

    Raises:
        SettingsError: If a place is missing, or quotes are not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"serve.command: {error}: {command}") from error
    for place in (MODEL, PORT):
        if not any(place in word for word in words):
            raise SettingsError(
                f"serve.command: `{place}` is missing in: {command}",
                hint=f"such as: vllm serve {MODEL} --port {PORT} --generation-config vllm",
            )
    return [word.replace(MODEL, model).replace(PORT, str(port)) for word in words]


def check_program(command: str) -> None:
    """Refuse, before a run starts, a command whose program is not here.

    Raises:
        SettingsError: If it is not.
    """
    program = words_of(command, model="", port=0)[0]
    if shutil.which(program) is None:
        raise SettingsError(f"serve.command: there is no program `{program}`", hint="give its path")


def start_server(command: str, *, model: str, start_timeout: float) -> HostedServer:
    """Start a server on 127.0.0.1 and wait until it is ready.

    Args:
        command: With `{model}` and `{port}`.
        model: Folder or name that stands for `{model}`.
        start_timeout: Seconds that it may take.

    Raises:
        SettingsError: If there is no such command.
        ServiceError: If it ends, or is not ready in time.
    """
    check_program(command)
    port = _free_port()
    words = words_of(command, model=model, port=port)
    log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C of a terminal is for us; and all that it starts can be ended with it
    )
    server = HostedServer(process, log, f"http://127.0.0.1:{port}/v1")
    until = time.monotonic() + start_timeout
    while not _is_ready(port):
        late = time.monotonic() > until
        if server.has_ended or late:
            told = server.last_words()
            server.stop()
            raise ServiceError(
                f"serve.command: {f'not ready within {start_timeout:g} s' if late else 'no server'}: {told}",
                hint=f"{'raise serve.start_timeout, or ' if late else ''}try it by hand: {shlex.join(words)}",
            )
        time.sleep(_POLL)
    return server


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _is_ready(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands before this machine
    for path in _READY:
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=2):
                return True
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return False
        except OSError:
            return False
    return False


def _last_words(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> str:
    code = process.poll()
    size = os.fstat(log.fileno()).st_size
    written = os.pread(log.fileno(), _SHOWN_BYTES, max(0, size - _SHOWN_BYTES)).decode("utf-8", "replace")
    lines = [line.strip() for line in written.splitlines() if line.strip()][-_SHOWN_LINES:]
    ended = "" if code is None else f"it ended with {code}"
    return "; ".join(filter(None, (ended, " | ".join(lines)))) or "it wrote nothing"


def _end(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Ask the group to end, and make it; what outlives its leader is ended too."""
    _signal(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(TO_STOP)
    _signal(process.pid, signal.SIGKILL)
    process.wait()
    log.close()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
