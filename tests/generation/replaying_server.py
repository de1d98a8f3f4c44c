"""A chat server that says what `replies.json` of the served folder holds; nothing but the standard library.

`replaying_server.py MODEL PORT` tells token ids and log-probs where it is asked as vLLM is, unless the folder has a
file `tells-none`. Greedy requests get the recorded continuation; others a response made of their seed. The question
`die` ends it.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
REPLIES = json.loads((FOLDER / "replies.json").read_text())
TELLS = not (FOLDER / "tells-none").exists()


def sampled(body):
    return {"text": "red", "token_ids": [10 + body["seed"] % 50, 20, REPLIES["end"]], "top": [[-1.5], [-2.5], [-0.5]]}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send(200 if self.path == "/health" else 404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        if question == "die":
            print("out of memory, said the server", file=sys.stderr, flush=True)
            os._exit(7)
        said = REPLIES["greedy"][question] if body["temperature"] == 0 else sampled(body)
        choice = {"index": 0, "message": {"role": "assistant", "content": said["text"]}}
        choice["finish_reason"] = "stop" if said["token_ids"][-1] == REPLIES["end"] else "length"
        document = {"model": body["model"], "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        if body.get("return_token_ids") and TELLS:
            positions = [
                {"token": "x", "logprob": top[0], "top_logprobs": [{"token": "x", "logprob": one} for one in top]}
                for top in said["top"]
            ]
            choice |= {"token_ids": said["token_ids"], "logprobs": {"content": positions}}
            document["prompt_token_ids"] = REPLIES["prompts"].get(question, [1, 2, 3])
        self.send(200, document)

    def send(self, status, document):
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(raw)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
