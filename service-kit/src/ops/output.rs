//! Output of a server that must not wait for its reader. A pipe that nobody reads blocks each write once it is full.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Prints a line to standard output without waiting for it.
pub fn print(line: String) {
    // Standard output may be closed.
    _ = start_write(line, io::stdout());
}

/// Prints a line to standard error, and waits until it is written, but no longer than `limit`.
pub fn print_error(line: String, limit: Duration) {
    if let Ok(written) = start_write(line, io::stderr()) {
        _ = written.recv_timeout(limit);
    }
}

fn start_write(line: String, mut output: impl Write + Send + 'static) -> io::Result<mpsc::Receiver<()>> {
    let (written, is_written) = mpsc::channel();
    thread::Builder::new().name("output".to_owned()).spawn(move || {
        _ = writeln!(output, "{line}");
        _ = written.send(());
    })?;
    Ok(is_written)
}
