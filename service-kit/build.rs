//! Records the version of the compiler, which the programs report.

use std::{env, error::Error, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").ok_or("cargo sets RUSTC")?;
    let version = String::from_utf8(Command::new(compiler).arg("--version").output()?.stdout)?;
    println!("cargo::rustc-env=TASKEY_RUSTC={}", version.trim());
    Ok(())
}
