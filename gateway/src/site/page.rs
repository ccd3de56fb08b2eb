//! The web page at `/` and its files, which are compiled in. Files that are not listed here are not served.

use http::{HeaderName, header};

use crate::site::asset::{Asset, CSS, HTML, SCRIPT, SVG};

/// The page loads resources of this origin only, and never interprets text as markup or code: a task title with
/// markup is shown literally. `data:` images are needed for the QR codes of authenticator apps.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    // Browsers revalidate each file on every load.
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Lists the files: the first is the page itself at `/`, the others are at `/page/` and their name. A macro, since
/// `include_bytes!` accepts only literals.
macro_rules! files {
    ($index:literal: $index_type:ident, $($name:literal: $content_type:ident,)*) => {
        [
            ("/", $index_type, include_bytes!(concat!("../../assets/page/", $index))),
            $((
                concat!("/page/", $name),
                $content_type,
                include_bytes!(concat!("../../assets/page/", $name)),
            ),)*
        ]
    };
}

const FILES: [(&str, &str, &[u8]); 49] = files! {
    "index.html": HTML,
    "icon.svg": SVG,
    "base.css": CSS,
    "views.css": CSS,
    "account.js": SCRIPT,
    "action.js": SCRIPT,
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "audit.js": SCRIPT,
    "challenge.js": SCRIPT,
    "code.js": SCRIPT,
    "connection.js": SCRIPT,
    "dates.js": SCRIPT,
    "device.js": SCRIPT,
    "dialogs.js": SCRIPT,
    "dom.js": SCRIPT,
    "drag.js": SCRIPT,
    "editor.js": SCRIPT,
    "email.js": SCRIPT,
    "events.js": SCRIPT,
    "export.js": SCRIPT,
    "factors.js": SCRIPT,
    "files.js": SCRIPT,
    "form.js": SCRIPT,
    "history.js": SCRIPT,
    "layout.js": SCRIPT,
    "lists.js": SCRIPT,
    "mail.js": SCRIPT,
    "move.js": SCRIPT,
    "notice.js": SCRIPT,
    "notifications.js": SCRIPT,
    "paging.js": SCRIPT,
    "passkeys.js": SCRIPT,
    "phrases.js": SCRIPT,
    "recurrence.js": SCRIPT,
    "reminders.js": SCRIPT,
    "row.js": SCRIPT,
    "scopes.js": SCRIPT,
    "search.js": SCRIPT,
    "sections.js": SCRIPT,
    "service-accounts.js": SCRIPT,
    "session.js": SCRIPT,
    "step-up.js": SCRIPT,
    "store.js": SCRIPT,
    "tasks.js": SCRIPT,
    "tokens.js": SCRIPT,
    "users.js": SCRIPT,
    "watch.js": SCRIPT,
    "webhooks.js": SCRIPT,
};

/// The path at which the page shows the view for codes of devices (RFC 8628).
const DEVICE_PATH: &str = "/device";

/// Returns the files by path.
pub fn assets() -> impl Iterator<Item = (&'static str, Asset)> {
    let (_, content_type, page) = FILES[0];
    FILES.into_iter().chain([(DEVICE_PATH, content_type, page)]).map(|(path, content_type, bytes)| {
        let asset = match str::from_utf8(bytes) {
            Ok(script) if content_type == SCRIPT => Asset::new(content_type, without_comments(script)),
            _ => Asset::new(content_type, bytes),
        };
        (path, HEADERS.into_iter().fold(asset, |asset, (name, value)| asset.with_header(name, value)))
    })
}

/// Returns a script without the lines of its comments, which are a sixth of the compressed page. Lines keep their numbers, by
/// which browsers report errors.
fn without_comments(script: &str) -> String {
    let mut is_in_comment = false;
    let lines = script.lines().map(|line| {
        let text = line.trim_start();
        is_in_comment |= text.starts_with("/**");
        let is_comment = is_in_comment || text.starts_with("//");
        is_in_comment &= !text.ends_with("*/");
        if is_comment { "" } else { line }
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_lose_their_comments_and_keep_their_line_numbers() {
        let script = "// One\nlet a = 1; // two\n/** Three */\n  /**\n   * Four\n   */\n  let b = `*/\n* 5`;\n";
        assert_eq!(without_comments(script), "\nlet a = 1; // two\n\n\n\n\n  let b = `*/\n* 5`;\n");
    }
}
