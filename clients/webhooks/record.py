"""Records messages of a webhook as vectors for the tests of the clients.

Usage: record.py FILE
"""

import http.server
import json
import os
import queue
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

URL = os.environ["TASKEY_URL"]
PASSWORD = "correct horse battery staple"
TIMEOUT = 30
"""How long a message may take, in seconds."""

Message = dict[str, Any]


def call(method: str, path: str, body: Any, token: str | None = None) -> Any:
    """Calls the gateway, and returns the response."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Records the messages that it receives."""

    messages: queue.Queue[Message] = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower().startswith("webhook-")}
        self.messages.put({"headers": headers, "body": body})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def record() -> list[Message]:
    """Returns the vectors: each message with the secrets that have signed it, and with changes that make it invalid."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    account = {"email": "ann@example.com", "password": PASSWORD}
    call("POST", "/v1/auth/signup", account)
    token = call("POST", "/v1/auth/login", account)["accessToken"]
    webhook = call("POST", "/v1/webhooks", {"url": f"http://127.0.0.1:{server.server_port}/"}, token)
    first = webhook["secret"]

    def send(title: str) -> Message:
        call("POST", "/v1/tasks", {"title": title}, token)
        message = Receiver.messages.get(timeout=TIMEOUT)
        assert json.loads(message["body"])["changes"][0]["task"]["title"] == title, message
        return message

    before = send("Buy milk 🥛")
    second = call("POST", f"/v1/webhooks/{webhook['id']}:rotateSecret", {}, token)["secret"]
    during = send("Grüße")
    call("POST", f"/v1/webhooks/{webhook['id']}:test", {}, token)
    tested = Receiver.messages.get(timeout=TIMEOUT)
    modified = {**before, "body": before["body"].replace("milk", "silk")}
    cases = [
        ("message", first, before, True),
        ("new secret before the rotation", second, before, False),
        ("modified body", first, modified, False),
        ("first secret during the rotation", first, during, True),
        ("second secret during the rotation", second, during, True),
        ("test", second, tested, True),
    ]
    return [{"name": name, "secret": secret, **message, "valid": valid} for name, secret, message, valid in cases]


vectors = {"now": int(time.time()), "cases": record()}
Path(sys.argv[1]).write_text(json.dumps(vectors))
