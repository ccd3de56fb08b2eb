//! The manifest of a backup, which describes its files.

use std::fmt;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// The version of the archive format.
const FORMAT: u32 = 1;

/// What a backup contains, and which program created it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: u32,
    /// The version of the program.
    pub version: String,
    /// When the backup began, in RFC 3339.
    pub create_time: String,
    /// The other files of the archive, in their order.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// The name in the archive.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 checksum in hexadecimal digits.
    pub sha256: String,
    /// The last migration of a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<i64>,
    /// The epoch of a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

impl Manifest {
    /// Creates a manifest of this version of the program.
    pub fn new(create_time: String, files: Vec<FileEntry>) -> Self {
        Self { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), create_time, files }
    }

    /// Parses a manifest.
    ///
    /// # Errors
    /// If it is invalid, or has the format of a newer program.
    pub fn parse(json: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json).context("the manifest is invalid")?;
        ensure!(format <= FORMAT, "the backup has the format {format} of a newer version of Taskey");
        serde_json::from_slice(json).context("the manifest is invalid")
    }

    /// Serializes the manifest.
    ///
    /// # Errors
    /// If it cannot be serialized, which is not expected.
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reports whether the backup contains a file.
    pub fn contains(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }
}

impl fmt::Display for Manifest {
    /// Writes one line for the backup, and one for each file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup of {}, taskey {}", self.create_time, self.version)?;
        for FileEntry { name, size, .. } in &self.files {
            write!(f, "\n{name}: {size} bytes")?;
        }
        Ok(())
    }
}
