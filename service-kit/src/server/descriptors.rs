//! The descriptors of the services that a server can have.

/// The services that every server has in addition to its own.
pub(super) const BUILT_IN_SERVICES: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// The encoded sets of the descriptor files. Several sets contain the files that they all import.
pub(super) const FILE_DESCRIPTOR_SETS: [&[u8]; 4] = [
    taskey_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];
