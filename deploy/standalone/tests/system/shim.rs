//! Steps the clock of a running program and makes its disk fail, by overriding a few functions of the C library.

use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

use service_kit::testing::folder;
use tempfile::TempDir;

/// Values of `errno` on Linux.
#[derive(Clone, Copy, Debug)]
pub enum DiskError {
    Input = 5,
    Full = 28,
}

pub struct Shim {
    folder: TempDir,
}

impl Shim {
    /// Compiles the shim with the C compiler that the build of the workspace needs as well.
    pub fn new() -> Self {
        let folder = folder();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/shim.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(folder.path().join("shim.so"));
        let status = compile.arg(source).arg("-ldl").status().expect("a C compiler is installed");
        assert!(status.success(), "the shim does not compile");
        fs::write(folder.path().join("settings"), [0; 24]).expect("the folder is writable");
        Self { folder }
    }

    /// Returns the environment variables that load the shim into a program.
    pub fn environment(&self) -> [(String, String); 2] {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [("LD_PRELOAD".to_owned(), path("shim.so")), ("TASKEY_TEST_SHIM".to_owned(), path("settings"))]
    }

    /// Sets the offset of the clock, in seconds.
    pub fn step_clock(&self, seconds: i64) {
        self.set(0, seconds);
    }

    /// Makes each write to a file fail with this error.
    pub fn fail_writes(&self, error: Option<DiskError>) {
        self.set(1, error.map_or(0, |error| error as i64));
    }

    /// Makes each `fsync` of a file fail with this error.
    pub fn fail_syncs(&self, error: Option<DiskError>) {
        self.set(2, error.map_or(0, |error| error as i64));
    }

    fn set(&self, number: u64, value: i64) {
        let file =
            fs::OpenOptions::new().write(true).open(self.folder.path().join("settings")).expect("the file exists");
        file.write_all_at(&value.to_ne_bytes(), number * 8).expect("the file is writable");
    }
}
