"""Adapts the code generator for stubs, which is a part of grpcio-tools, to the plugin interface of protoc and buf."""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest, folder: Path) -> CodeGeneratorResponse:
    """Generates the stubs of the requested files, with a folder for intermediate files."""
    descriptors = folder / "descriptors"
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    arguments = [
        "protoc",
        f"--descriptor_set_in={descriptors}",
        f"--grpc_python_out={folder}",
        *request.file_to_generate,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    for file in sorted(folder.rglob("*.py")):
        response.file.add(name=str(file.relative_to(folder)), content=file.read_text())
    return response


with tempfile.TemporaryDirectory() as temporary:
    plugin_request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(plugin_request, Path(temporary)).SerializeToString())
