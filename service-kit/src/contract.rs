//! The parts of descriptors (`google.protobuf.FileDescriptorSet`) that contain options of the contract. The types of
//! `prost_types` omit custom options.

use prost::Message;

/// The descriptor of a contract.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Contract {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<ContractFile>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractFile {
    #[prost(string, tag = "2")]
    pub(crate) package: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) messages: Vec<ContractMessage>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) services: Vec<ContractService>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractMessage {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) fields: Vec<ContractField>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractField {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "3")]
    pub(crate) number: u32,
    #[prost(message, optional, tag = "8")]
    pub(crate) options: Option<ContractFieldOptions>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractFieldOptions {
    /// `google.api.field_behavior`.
    #[prost(int32, repeated, tag = "1052")]
    pub(crate) behavior: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractService {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) methods: Vec<ContractMethod>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractMethod {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) options: Option<ContractMethodOptions>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContractMethodOptions {
    /// `taskey.options.v1.scope`.
    #[prost(string, tag = "50101")]
    pub(crate) scope: String,
}
