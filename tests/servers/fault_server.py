"""A chat server on 127.0.0.1 whose faults are scripted by the questions themselves.

A question such as "[429,500,ok] which is better?" gets these behaviours at its attempts, the last one for ever. What it
was asked is recorded, by question.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Talk = Callable[[dict[str, Any]], dict[str, Any]]
STALL_SECONDS = 3.0


def say_ok(body: dict[str, Any]) -> dict[str, Any]:
    """The reply "m", surely, in the form of the official server."""
    top = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.4}][: body.get("top_logprobs", 0)]
    content = [{"token": "m", "logprob": -0.1, "top_logprobs": top}] if body.get("logprobs") else None
    return {"text": "m", "logprobs": content, "finish_reason": "stop"}


def escaped(document: dict[str, Any]) -> bytes:
    """JSON in the spelling of PHP and Go: some characters that need no escape have one."""
    return json.dumps(document).replace("/", "\\/").replace("=", "\\u003d").encode()


def script_of(question: str) -> list[str]:
    """The behaviours that a question asks for: at its start in brackets, or anywhere as <<500,ok>>."""
    if question.startswith("["):
        return question.split("]")[0].lstrip("[").split(",")
    found = re.search(r"<<([\w,]+)>>", question)
    return found[1].split(",") if found else ["ok"]


class FaultServer:
    """Counts and behaviours of one server."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.lock = talk, threading.Lock()
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.delay = 0.0
        self.always = ""  # a behaviour whatever is asked
        self.url = ""


def _handler(server: FaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(raw)
            question = body["messages"][-1]["content"]
            script = script_of(question)
            with server.lock:
                turn = server.asked[question]
                server.asked[question] += 1
                server.times.append(time.monotonic())
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.bodies.append(body)
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                time.sleep(server.delay)
                self.behave(server.always or script[min(turn, len(script) - 1)], body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with server.lock:
                    server.in_flight -= 1

        def behave(self, what: str, body: dict[str, Any]) -> None:
            said = server.talk(body) if what not in ("429", "500") else say_ok(body)
            if what.isdigit() or what.startswith("429"):
                self.fail(what, body)
            elif what == "html":
                self.send(200, b"<html>busy</html>", {})
            elif what == "reset":
                self.connection.close()
            elif what == "deep":
                self.send(200, b"[" * 200_000, {})
            elif what == "400deep":
                self.send(400, b"[" * 50_000, {})
            elif what in ("500drip", "401drip"):
                self.drip(int(what[:3]))
            elif what == "stall":
                time.sleep(STALL_SECONDS)
            elif what == "drip":
                self.drip(200)
            else:
                self.reply(what, said, body)

        def drip(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(int(STALL_SECONDS / 0.1)):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)

        def fail(self, what: str, body: dict[str, Any]) -> None:
            if what == "429after":
                headers = {"Retry-After": "0.4"}
            elif what == "429long":
                headers = {"Retry-After": "9999"}
            else:
                headers = {}
            code = "insufficient_quota" if what == "429quota" else "none"
            told = f"{what}, said to {self.headers.get('Authorization')} about {body['model']}"
            error = {"error": {"message": told, "code": code}}
            self.send(int(what[:3]), escaped(error), headers)

        def reply(self, what: str, said: dict[str, Any], body: dict[str, Any]) -> None:
            ends = {
                "cut": "length",
                "filter": "content_filter",
                "tools": "tool_calls",
                "abort": "abort",
                "MAX": "MAX_TOKENS",
            }
            reason = ends.get(what, said["finish_reason"])
            logprobs = {"content": said["logprobs"]} if said["logprobs"] and what != "nologprobs" else None
            choices = [
                {"index": index, "finish_reason": reason, "logprobs": logprobs,
                 "message": {"role": "assistant", "content": None if what in ("null", "tools") else said["text"]},
                 **({"error": {"code": 502, "message": "the upstream is gone"}} if what == "upstream" else {})}
                for index in range(1 if what == "few" else body.get("n", 1))
            ]  # fmt: skip
            usage = {"prompt_tokens": 10, "completion_tokens": 2}
            document = {"model": body["model"] + "-dated", "choices": choices, "usage": usage}
            if what == "echo":
                choices[0]["message"]["content"] = self.headers.get("Authorization")
            self.send(200, escaped(document), {})

        def send(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), "Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    return Handler


@contextmanager
def fault_server(talk: Talk = say_ok) -> Iterator[FaultServer]:
    """A server in a thread of this process, until the block ends."""
    server = FaultServer(talk)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
