//! Makes the clock of a running program step, and its disk fail: a few functions in front of those of the C library.

use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

use service_kit::testing::folder;
use tempfile::TempDir;

/// `errno` of Linux.
#[derive(Clone, Copy, Debug)]
pub enum DiskError {
    Input = 5,
    Full = 28,
}

pub struct Shim {
    folder: TempDir,
}

impl Shim {
    /// Compiles it with the C compiler that the build of the workspace needs, too.
    pub fn new() -> Self {
        let folder = folder();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/shim.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(folder.path().join("shim.so"));
        let status = compile.arg(source).arg("-ldl").status().expect("there is a C compiler");
        assert!(status.success(), "the shim does not compile");
        fs::write(folder.path().join("wishes"), [0; 24]).expect("the folder takes a file");
        Self { folder }
    }

    /// What loads it into a program.
    pub fn environment(&self) -> [(String, String); 2] {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [("LD_PRELOAD".to_owned(), path("shim.so")), ("TASKEY_TEST_SHIM".to_owned(), path("wishes"))]
    }

    /// The clock is off by so many seconds from now on.
    pub fn step_clock(&self, seconds: i64) {
        self.wish(0, seconds);
    }

    /// Each write to a file fails with this.
    pub fn fail_writes(&self, error: Option<DiskError>) {
        self.wish(1, error.map_or(0, |error| error as i64));
    }

    /// Forcing a file to the disk fails with this.
    pub fn fail_syncs(&self, error: Option<DiskError>) {
        self.wish(2, error.map_or(0, |error| error as i64));
    }

    fn wish(&self, number: u64, value: i64) {
        let file = fs::OpenOptions::new().write(true).open(self.folder.path().join("wishes")).expect("made before");
        file.write_all_at(&value.to_ne_bytes(), number * 8).expect("the file takes a number");
    }
}
