"""The operations of verifiers."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from taskey.task.v1.task_pb2 import Task
from taskey.task.v1.task_service_pb2_grpc import TaskServiceServicer, add_TaskServiceServicer_to_server
from taskey.verifier import AioServerInterceptor, AsgiMiddleware, Claims, KeySet, Verifier, caller, verify_token

Parameters = dict[str, Any]


def as_json(claims: Claims) -> Parameters:
    """Returns the claims under their names in the token."""
    members = {name: value for name, value in asdict(claims).items() if value is not None}
    del members["is_personal_access_token"]
    if "scopes" in members:
        members["scope"] = " ".join(members.pop("scopes"))
    return members


class TaskService(TaskServiceServicer):
    """Returns tasks whose `id` is the user of the caller."""

    async def GetTask(self, request: Any, context: Any) -> Task:  # noqa: N802 (the name of the RPC)
        """Returns a task."""
        return Task(id=caller().sub)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Returns the user of the caller."""
    body = json.dumps({"sub": caller().sub}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Servers:
    """A verifier, with servers behind it."""

    verifier: Verifier
    grpc_server: grpc.aio.Server
    http_server: uvicorn.Server
    http_task: asyncio.Task[None]

    async def close(self) -> None:
        """Stops the servers and the verifier."""
        await self.grpc_server.stop(None)
        self.http_server.should_exit = True
        await self.http_task
        await asyncio.to_thread(self.verifier.close)


class VerifierOperations:
    """The operations of verifiers."""

    def __init__(self) -> None:
        self._servers: dict[str, Servers] = {}
        self._folder = tempfile.TemporaryDirectory()
        self.operations: dict[str, Callable[[Parameters], Awaitable[Parameters]]] = {
            "verify_vector": self.verify_vector,
            "verifier": self.verifier,
            "verify": self.verify,
            "state": self.state,
            "close_verifier": self.close_verifier,
        }

    async def verify_vector(self, parameters: Parameters) -> Parameters:
        """Verifies a token at a given time."""
        names = ("issuer", "audience", "token", "now")
        keys = KeySet.from_jwks(parameters["keys"], parameters["now"])
        return {"claims": as_json(verify_token(keys, *(parameters[name] for name in names)))}

    async def verifier(self, parameters: Parameters) -> Parameters:
        """Creates a verifier and servers behind it."""
        service_token_file = None
        if "service_token" in parameters:
            service_token_file = Path(self._folder.name) / parameters["verifier"]
            service_token_file.write_text(parameters["service_token"])
        verifier = Verifier(
            parameters["address"],
            key_file=parameters.get("key_file"),
            service_token_file=service_token_file,
            tls=None,
            issuer=parameters["issuer"],
            audience=parameters["audience"],
            max_staleness=parameters.get("max_staleness_ms", 30_000) / 1000,
        )
        server = grpc.aio.server(interceptors=[AioServerInterceptor(verifier)])
        add_TaskServiceServicer_to_server(TaskService(), server)  # type: ignore[abstract]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        protected = AsgiMiddleware(application, verifier, required_scope="tasks.read")
        config = uvicorn.Config(protected, port=0, log_level="warning", lifespan="off")
        http = uvicorn.Server(config)
        task = asyncio.create_task(http.serve())
        while not http.started:  # noqa: ASYNC110 (uvicorn has no event for this)
            await asyncio.sleep(0.01)
        http_port = http.servers[0].sockets[0].getsockname()[1]
        self._servers[parameters["verifier"]] = Servers(verifier, server, http, task)
        return {"grpc": f"127.0.0.1:{port}", "http": f"127.0.0.1:{http_port}"}

    async def verify(self, parameters: Parameters) -> Parameters:
        """Verifies a token."""
        verifier = self._servers[parameters["verifier"]].verifier
        claims = await verifier.authenticate_async(parameters["token"], parameters.get("client_address"))
        if "max_age_s" in parameters:
            claims.require_fresh(parameters["max_age_s"])
        return {"claims": as_json(claims)}

    async def state(self, parameters: Parameters) -> Parameters:
        """Returns how fresh the revocations are."""
        return {"state": self._servers[parameters["verifier"]].verifier.state.name}

    async def close_verifier(self, parameters: Parameters) -> Parameters:
        """Stops a verifier and its servers."""
        await self._servers.pop(parameters["verifier"]).close()
        return {}
