//! What is known about the build of a program.

use serde::Serialize;

/// The version of a program, as `/version` and the metric `taskey_build_info` report it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BuildInfo {
    /// The name of the program.
    pub name: &'static str,
    /// The version that all programs share.
    pub version: &'static str,
    /// The commit, if the environment variable `TASKEY_COMMIT` contained it when the program was compiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<&'static str>,
    /// The version of the compiler.
    pub rustc: &'static str,
}

impl BuildInfo {
    /// Returns what is known about the build of the program with this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("TASKEY_COMMIT"),
            rustc: env!("TASKEY_RUSTC"),
        }
    }
}
