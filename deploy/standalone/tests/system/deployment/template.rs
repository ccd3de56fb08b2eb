//! Fills in the configuration files of `deploy/`.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

/// Returns the path of a file in `deploy/`.
pub fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// Reads a file of `deploy/` and replaces each `${NAME}`. All variables must be in the file, and it must have no others.
pub fn render(file: &str, variables: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(deploy(file)).expect(file);
    for (name, value) in variables {
        let placeholder = format!("${{{name}}}");
        assert!(text.contains(&placeholder), "{file} has no {placeholder}");
        text = text.replace(&placeholder, value);
    }
    assert!(!text.contains("${"), "{file} has other variables");
    text
}

/// Returns an address on which nothing listens. Programs that cannot choose a port by themselves listen on it.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// Returns the path of a program that Debian may install outside the `PATH` of ordinary users, or that
/// `.ci/install-tools` installs.
pub fn find_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing; `.ci/install-tools deploy` installs it"))
}
