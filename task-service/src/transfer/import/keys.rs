//! Keys of tasks that have none in the file.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Returns keys from the contents of tasks, so that a file that is imported twice has the same keys. Equal contents are
/// numbered.
#[derive(Debug, Default)]
pub(crate) struct Keys(HashMap<[u8; 16], u32>);

impl Keys {
    pub(crate) fn next<'a>(&mut self, contents: impl Iterator<Item = &'a str>) -> String {
        let contents: Vec<_> = contents.collect();
        let hash = digest(&SHA256, contents.join("\u{1f}").as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_ref()[..16]);
        let number = self.0.entry(short).or_default();
        *number += 1;
        format!("{}.{number}", BASE64_URL_SAFE_NO_PAD.encode(short))
    }
}
