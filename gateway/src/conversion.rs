//! Conversions between formats, which take long for large messages.

use std::{panic::resume_unwind, sync::LazyLock, thread::available_parallelism};

use service_kit::status::ApiError;
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Maximum size of a message that is converted on the thread that handles the request. Its conversion takes less than a
/// millisecond.
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

/// Limits the memory of concurrent conversions: the JSON of a message may be much larger than its encoding.
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// Converts a message of this size. A large one is converted on another thread, so that it does not delay other requests.
///
/// # Errors
/// `INTERNAL` if the runtime shuts down.
pub async fn convert<T: Send + 'static>(
    bytes: usize,
    conversion: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= MAX_INLINE_BYTES {
        return Ok(conversion());
    }
    let permit = PERMITS.acquire().await.map_err(ApiError::internal)?;
    let converted = spawn_blocking(move || {
        let _permit = permit;
        conversion()
    });
    converted.await.map_err(|error| match error.try_into_panic() {
        // The caller handles panics of conversions alike, whichever thread they are made on.
        Ok(panic) => resume_unwind(panic),
        Err(error) => ApiError::internal(error),
    })
}
