//! Stores the file of an import while it arrives: a short one in memory, a longer one in a temporary file, which nobody
//! else can open.

use std::{
    fs,
    io::{Cursor, Seek, SeekFrom},
};

use prost::bytes::Bytes;
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::{fs::File as AsyncFile, io::AsyncWriteExt};
use tonic::Code;

use super::sink::File;

/// Maximum size of a file.
pub(crate) const MAX_FILE_BYTES: usize = 100 * 1024 * 1024;

/// Maximum size of a file in memory.
const MAX_MEMORY_BYTES: usize = 1024 * 1024;

/// A file that is being received.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    /// The first bytes, until there is a file.
    memory: Vec<u8>,
    file: Option<AsyncFile>,
    length: usize,
}

/// A file that has been received.
#[derive(Debug)]
pub(crate) enum Spooled {
    Memory(Bytes),
    File(fs::File),
}

impl Spool {
    /// Appends the next bytes.
    ///
    /// # Errors
    /// MESSAGE_TOO_LARGE, and UNAVAILABLE if they cannot be stored.
    pub(crate) async fn append(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.length = self.length.saturating_add(bytes.len());
        if self.length > MAX_FILE_BYTES {
            let message = "the file is larger than 100 MiB";
            return Err(ApiError::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message));
        }
        if self.file.is_none() && self.length <= MAX_MEMORY_BYTES {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(ApiError::internal)?;
            let mut file = AsyncFile::from_std(file.map_err(|error| not_stored(&error))?);
            file.write_all(&std::mem::take(&mut self.memory)).await.map_err(|error| not_stored(&error))?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).await.map_err(|error| not_stored(&error))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// UNAVAILABLE if it cannot be stored.
    pub(crate) async fn finish(self) -> Result<Spooled, ApiError> {
        let Some(mut file) = self.file else { return Ok(Spooled::Memory(self.memory.into())) };
        file.flush().await.map_err(|error| not_stored(&error))?;
        Ok(Spooled::File(file.into_std().await))
    }
}

impl Spooled {
    /// Opens the file at its beginning. Only one reader may be in use at a time.
    ///
    /// # Errors
    /// UNAVAILABLE if it cannot be read.
    pub(crate) fn open(&self) -> Result<Box<dyn File>, ApiError> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Self::File(file) => {
                let mut file = file.try_clone().map_err(|error| not_stored(&error))?;
                file.seek(SeekFrom::Start(0)).map_err(|error| not_stored(&error))?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Returns the error for a file that cannot be stored or read, for example because the disk is full.
fn not_stored(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "a file cannot be stored in the folder for temporary files");
    let message = "the server cannot store the file at the moment";
    ApiError::new(Code::Unavailable, ErrorReason::StoreUnavailable, message)
        .retry_after(std::time::Duration::from_secs(10))
}
