//! The files of the web page at `/`. The page itself is tested in a browser, with the whole program.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use http::Method;

use crate::{
    openapi::contract_pool,
    program::{Program, UNREACHABLE, with_header},
};

/// Starts a gateway without services, which the page does not need.
async fn start() -> Program {
    Program::start_with(UNREACHABLE, UNREACHABLE).await
}

/// Returns the files of the page, each with the path at which it is served.
fn files() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = files.map(|entry| (format!("/page/{}", entry.file_name().to_str().unwrap()), entry.path()));
    files.map(|(path, file)| (if path == "/page/index.html" { "/".to_owned() } else { path }, file)).collect()
}

#[tokio::test]
async fn page_files_are_served_unchanged_except_for_comments_in_scripts() {
    let program = start().await;
    for (path, file) in files() {
        let response = program.get(&path).await;
        let source = fs::read_to_string(file).unwrap();
        let is_script = path.rsplit_once('.').is_some_and(|(_, extension)| extension == "js");
        assert_eq!((response.code, response.text.lines().count()), (200, source.lines().count()), "{path}");
        for (number, (served, line)) in response.text.lines().zip(source.lines()).enumerate() {
            let starts_comment = ["//", "/**", "*"].iter().any(|start| line.trim_start().starts_with(start));
            let expected = if is_script && starts_comment { "" } else { line };
            assert_eq!(served, expected, "{path}, line {}", number + 1);
        }
    }
}

#[tokio::test]
async fn page_is_also_at_the_address_for_devices() {
    let program = start().await;
    let (page, device) = (program.get("/").await, program.get("/device").await);
    assert_eq!((device.code, &device.text), (200, &page.text));
    for header in ["content-type", "content-security-policy", "referrer-policy", "etag"] {
        assert_eq!(device.header(header), page.header(header), "{header}");
    }
}

#[tokio::test]
async fn page_files_have_their_content_type() {
    let program = start().await;
    for (path, _) in files() {
        let expected = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        let response = program.get(&path).await;
        assert_eq!((response.header("content-type"), response.header("x-content-type-options")), (expected, "nosniff"));
    }
}

#[test]
fn every_kind_of_security_event_has_a_sentence() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page/events.js");
    let script = fs::read_to_string(script).unwrap();
    let sentences = script.split_once("const SENTENCES = {\n").unwrap().1.split_once("\n};").unwrap().0;
    let kinds = contract_pool().get_enum_by_name("taskey.auth.v1.AuditEvent.Kind").unwrap();
    for kind in kinds.values().filter(|kind| kind.number() != 0) {
        let entry = format!("  {}: ", kind.name());
        assert!(sentences.lines().any(|line| line.starts_with(&entry)), "{} has no sentence", kind.name());
    }
}

#[tokio::test]
async fn content_security_policy_allows_only_the_page_itself() {
    let program = start().await;
    for (path, _) in files() {
        let response = program.get(&path).await;
        let policy: Vec<_> = response.header("content-security-policy").split("; ").collect();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(policy.contains(&directive), "{path}: {policy:?}");
        }
        assert_eq!(response.header("referrer-policy"), "no-referrer");
        assert_eq!(response.header("cross-origin-opener-policy"), "same-origin");
    }
}

#[tokio::test]
async fn page_has_no_inline_scripts_or_styles() {
    let html = start().await.get("/").await.text;
    let is_event_handler = |attribute: &str| attribute.starts_with("on") && attribute.contains('=');
    assert!(!html.contains("<style") && !html.contains(" style="), "{html}");
    assert_eq!(html.split_whitespace().find(|attribute| is_event_handler(attribute)), None);
    assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=\"page/").count());
}

#[tokio::test]
async fn unchanged_file_is_not_sent_again() {
    let program = start().await;
    for (path, _) in files() {
        let first = program.get(&path).await;
        assert_eq!(first.header("cache-control"), "no-cache");
        let tag = first.header("etag");
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 20, "{tag}");
        let mut request = program.request(Method::GET, &path, "");
        request.headers_mut().insert("if-none-match", tag.parse().unwrap());
        let second = program.send(request).await;
        assert_eq!((second.code, &second.text[..], second.header("etag")), (304, "", tag), "{path}");
        let mut request = program.request(Method::GET, &path, "");
        request.headers_mut().insert("if-none-match", "\"another\"".parse().unwrap());
        assert_eq!(program.send(request).await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn each_file_has_its_own_etag() {
    let program = start().await;
    let mut tags = Vec::new();
    for (path, _) in files() {
        tags.push(program.get(&path).await.header("etag").to_owned());
    }
    let file_count = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), file_count);
}

#[tokio::test]
async fn head_returns_the_length_without_a_body() {
    let program = start().await;
    let length = program.get("/").await.text.len().to_string();
    let response = program.send(program.request(Method::HEAD, "/", "")).await;
    assert_eq!((response.code, &response.text[..], response.header("content-length")), (200, "", &length[..]));
}

#[tokio::test]
async fn page_is_read_only() {
    let program = start().await;
    for path in ["/", "/page/app.js"] {
        let response = program.send(program.request(Method::POST, path, "")).await;
        response.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(response.header("allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn other_files_cannot_be_read() {
    let program = start().await;
    for path in [
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../Cargo.toml",
        "/page/%2e%2e/Cargo.toml",
        "/page/..%2f..%2fCargo.toml",
        "/page//app.js",
        "/page/app.js/",
        "/page/APP.JS",
        "//etc/passwd",
    ] {
        // An HTTP client would normalize the path.
        let mut socket = TcpStream::connect(program.address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let (status, response) = tokio::task::spawn_blocking(move || {
            let mut response = String::new();
            socket.read_to_string(&mut response).unwrap();
            (response.split(' ').nth(1).unwrap().to_owned(), response)
        })
        .await
        .unwrap();
        assert!(status == "404" && response.contains("ROUTE_NOT_FOUND"), "{path}: {response}");
    }
}

#[tokio::test]
async fn page_is_smaller_than_70_kib() {
    let program = start().await;
    let mut bytes = 0;
    for (path, _) in files() {
        let request = with_header(program.request(Method::HEAD, &path, ""), "accept-encoding", "gzip");
        let response = program.send(request).await;
        bytes += response.header("content-length").parse::<usize>().unwrap();
    }
    assert!(bytes < 70 * 1024, "{bytes} bytes");
}
