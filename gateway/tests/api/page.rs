//! The web page at `/`, as it is served. What it does is tried in a browser, with the whole program.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use http::Method;

use crate::program::{NOBODY, Program, with_header};

/// The page needs no service to be there.
async fn start() -> Program {
    Program::before(NOBODY, NOBODY).await
}

/// The files of the page, and where they are served.
fn files() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = files.map(|entry| (format!("/page/{}", entry.file_name().to_str().unwrap()), entry.path()));
    files.map(|(path, file)| (if path == "/page/index.html" { "/".to_owned() } else { path }, file)).collect()
}

#[tokio::test]
async fn every_file_of_the_page_is_served_as_it_is() {
    let program = start().await;
    for (path, file) in files() {
        let answer = program.get(&path).await;
        assert_eq!((answer.code, answer.text), (200, fs::read_to_string(file).unwrap()), "{path}");
    }
}

#[tokio::test]
async fn every_file_says_what_it_is() {
    let program = start().await;
    for (path, _) in files() {
        let expected = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        let answer = program.get(&path).await;
        assert_eq!((answer.header("content-type"), answer.header("x-content-type-options")), (expected, "nosniff"));
    }
}

#[tokio::test]
async fn nothing_but_the_page_itself_may_run_in_it() {
    let program = start().await;
    for (path, _) in files() {
        let answer = program.get(&path).await;
        let policy: Vec<_> = answer.header("content-security-policy").split("; ").collect();
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
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
    }
}

#[tokio::test]
async fn the_page_holds_no_script_and_no_style_that_the_policy_would_refuse() {
    let html = start().await.get("/").await.text;
    let handles = |attribute: &str| attribute.starts_with("on") && attribute.contains('=');
    assert!(!html.contains("<style") && !html.contains(" style="), "{html}");
    assert_eq!(html.split_whitespace().find(|attribute| handles(attribute)), None);
    assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=\"/page/").count());
}

#[tokio::test]
async fn a_browser_that_has_the_file_loads_it_no_more() {
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
async fn each_file_has_a_tag_of_its_own() {
    let program = start().await;
    let mut tags = Vec::new();
    for (path, _) in files() {
        tags.push(program.get(&path).await.header("etag").to_owned());
    }
    let all = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), all);
}

#[tokio::test]
async fn head_answers_the_length_without_the_file() {
    let program = start().await;
    let length = program.get("/").await.text.len().to_string();
    let answer = program.send(program.request(Method::HEAD, "/", "")).await;
    assert_eq!((answer.code, &answer.text[..], answer.header("content-length")), (200, "", &length[..]));
}

#[tokio::test]
async fn the_page_can_only_be_read() {
    let program = start().await;
    for path in ["/", "/page/app.js"] {
        let answer = program.send(program.request(Method::POST, path, "")).await;
        answer.assert_refused(405, "UNIMPLEMENTED", "METHOD_UNKNOWN", &[]);
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn nothing_else_can_be_reached_by_its_path() {
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
        // A client of HTTP would tidy the path up.
        let mut socket = TcpStream::connect(program.address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let (status, answer) = tokio::task::spawn_blocking(move || {
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            (answer.split(' ').nth(1).unwrap().to_owned(), answer)
        })
        .await
        .unwrap();
        assert!(status == "404" && answer.contains("ROUTE_NOT_FOUND"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_whole_page_loads_in_less_than_60_kib() {
    let program = start().await;
    let mut bytes = 0;
    for (path, _) in files() {
        let request = with_header(program.request(Method::HEAD, &path, ""), "accept-encoding", "gzip");
        let answer = program.send(request).await;
        bytes += answer.header("content-length").parse::<usize>().unwrap();
    }
    assert!(bytes < 60 * 1024, "{bytes} bytes");
}
