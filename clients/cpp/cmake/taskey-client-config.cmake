include(CMakeFindDependencyMacro)
find_dependency(gRPC CONFIG)
find_dependency(Protobuf)
include("${CMAKE_CURRENT_LIST_DIR}/taskey-client-targets.cmake")
