//! A certificate authority for a test, by the program `openssl`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A certificate and its private key, issued by the authority in the same folder.
pub struct Certificate {
    pub authority: PathBuf,
    pub chain: PathBuf,
    pub private_key: PathBuf,
}

impl Certificate {
    /// Creates an authority, and a certificate for these names, such as `DNS:localhost`.
    pub fn issue(folder: &Path, names: &str) -> Self {
        let path = |name: &str| folder.join(name);
        let [authority, authority_key] = ["ca.pem", "ca.key"].map(path);
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let x509 = ["req", "-x509", "-days", "2", "-subj"];
        openssl(&[&x509[..], &["/CN=Test CA"], &new_key, &["-keyout", text(&authority_key), "-out", text(&authority)]]);
        let [chain, private_key] = ["tls.crt", "tls.key"].map(path);
        let names = format!("subjectAltName={names}");
        let extensions = ["-addext", &names, "-addext", "basicConstraints=critical,CA:false"];
        let issuer = ["-CA", text(&authority), "-CAkey", text(&authority_key)];
        let files = ["-keyout", text(&private_key), "-out", text(&chain)];
        openssl(&[&x509[..], &["/CN=Taskey"], &new_key, &extensions, &issuer, &files]);
        Self { authority, chain, private_key }
    }

    /// Writes the certificate and the private key to one file, and returns its path.
    pub fn combined(&self) -> PathBuf {
        let path = self.chain.with_extension("pem");
        let parts = [&self.chain, &self.private_key].map(|file| fs::read_to_string(file).expect("readable"));
        fs::write(&path, parts.concat()).expect("written");
        path
    }
}

fn openssl(arguments: &[&[&str]]) {
    let output = Command::new("openssl").args(arguments.concat()).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("made of ASCII")
}
