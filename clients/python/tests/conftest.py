"""Starts servers of Taskey for the tests."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from clients import AnyClient, AsyncTestClient, SyncTestClient

import taskey
from taskey.auth.v1.auth_service_pb2 import SignUpRequest

REPOSITORY = Path(__file__).resolve().parents[3]
TASKEY = os.environ.get("TASKEY_BIN") or str(REPOSITORY / "target/debug/taskey")
PASSWORD = "correct horse battery staple"


class Server:
    """A running `taskey`."""

    def __init__(self, data: Path, *arguments: str, port: int = 0) -> None:
        listen = [f"--{name}-listen=127.0.0.1:0" for name in ("auth", "task", "ops")]
        listen.append(f"--gateway-listen=127.0.0.1:{port}")
        cheap = ["--password-memory-kib", "8192", "--password-passes", "1"]
        command = [TASKEY, "--data-dir", str(data), *listen, "--rate-limits", "off", *cheap, *arguments]
        self.data = data
        self._arguments = arguments
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addresses: dict[str, str] = {}
        assert self._process.stdout
        for line in self._process.stdout:
            if found := re.match(r"listening (\w+) (\S+)", line):
                self.addresses[found[1]] = found[2]
            if len(self.addresses) == 4:
                break
        else:
            raise RuntimeError("taskey did not start")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.addresses['ops']}/readyz"):
                return
            time.sleep(0.05)
        raise RuntimeError("taskey is not ready")

    @property
    def address(self) -> str:
        """The address of the gateway."""
        return self.addresses["gateway"]

    def stop(self, *, abruptly: bool = False) -> None:
        """Stops the server."""
        (self._process.kill if abruptly else self._process.terminate)()
        self._process.wait(30)

    def restart(self, *, abruptly: bool = False) -> None:
        """Stops the server and starts it again at the same address."""
        self.stop(abruptly=abruptly)
        self.__init__(self.data, *self._arguments, port=int(self.address.rpartition(":")[2]))  # type: ignore[misc]

    def sign_up(self, tls: taskey.TLS | None = None) -> taskey.Password:
        """Creates an account, and returns its credentials."""
        email = f"{uuid.uuid4()}@example.com"
        with taskey.Client(self.address, tls=tls) as client:
            client.auth.SignUp(SignUpRequest(email=email, password=PASSWORD))
        return taskey.Password(email, PASSWORD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(abruptly=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share."""
    with Server(tmp_path_factory.mktemp("taskey")) as running:
        yield running


@pytest.fixture(scope="session")
def short_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose access tokens live for 3 s, and are accepted for another 5 s."""
    with Server(tmp_path_factory.mktemp("taskey"), "--access-token-ttl", "3s") as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that a test has for itself."""
    servers: list[Server] = []

    def start_server(*arguments: str) -> Server:
        servers.append(Server(tmp_path / str(len(servers)), *arguments))
        return servers[-1]

    yield start_server
    for running in servers:
        running.stop(abruptly=True)


@pytest.fixture(params=[SyncTestClient, AsyncTestClient], ids=["sync", "async"])
def new_client(request: pytest.FixtureRequest) -> type[AnyClient]:
    """Creates clients of either kind."""
    kind: type[AnyClient] = request.param
    return kind
