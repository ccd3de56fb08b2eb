//! HTTP requests and responses of RPCs: conversion, errors, headers, compression and CORS.

pub mod call;
pub mod cors;
pub mod error;
pub mod headers;
pub mod negotiation;
pub mod oauth;
pub mod request;
pub mod response;
