"""A service that calls task-service with the token that it has received: the service in Python of this test.

Usage: reports.py GATEWAY KEY_FILE
GATEWAY is the address of the gateway. The program prints its own address.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from taskey.task.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from taskey.verifier import ServerInterceptor, Verifier, caller

SERVICE = "example.v1.Reports"


def forward(call: Callable[..., Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Returns a handler that calls task-service on behalf of the user, and reports which service acts for the user."""

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        claims = caller()
        context.send_initial_metadata([("x-actor", claims.act.sub if claims.act else "")])
        token = dict(context.invocation_metadata())["authorization"]
        try:
            return call(request, metadata=[("authorization", token)], timeout=10)
        except grpc.RpcError as error:
            details = [(name, value) for name, value in error.trailing_metadata() if name == "grpc-status-details-bin"]
            context.set_trailing_metadata(details)
            context.abort(error.code(), error.details())

    return handle


def main() -> None:
    gateway, key_file = sys.argv[1:]
    tasks = task_service_pb2_grpc.TaskServiceStub(grpc.insecure_channel(gateway))
    verifier = Verifier(gateway, key_file=key_file, tls=None)
    # Both methods only need to read, so that it is task-service that refuses to create a task.
    scopes = {f"/{SERVICE}/List": "tasks.read", f"/{SERVICE}/Create": "tasks.read"}
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[ServerInterceptor(verifier, scopes=scopes)])
    methods = {
        "List": grpc.unary_unary_rpc_method_handler(
            forward(tasks.ListTasks),
            task_service_pb2.ListTasksRequest.FromString,
            task_service_pb2.ListTasksResponse.SerializeToString,
        ),
        "Create": grpc.unary_unary_rpc_method_handler(
            forward(tasks.CreateTask),
            task_service_pb2.CreateTaskRequest.FromString,
            task_pb2.Task.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


main()
