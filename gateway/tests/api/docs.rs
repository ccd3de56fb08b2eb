//! `/docs`: the page that shows the OpenAPI document.

use http::Method;

use crate::{
    program::{Program, UNREACHABLE, with_header},
    support::TestResponse,
};

#[tokio::test]
async fn page_runs_only_its_own_scripts() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let response = program.get("/docs").await;
    assert_eq!((response.code, response.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = response.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    for script in response.text.split("<script").skip(1) {
        let (attributes, content) = script.split_once('>').unwrap();
        assert!(attributes.contains("src=\"docs/") && content.starts_with("</script>"), "{script}");
    }
    assert!(!response.text.contains("//"), "the page refers to another origin");
}

#[tokio::test]
async fn files_of_the_page_are_served() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let page = program.get("/docs").await.text;
    // Relative, because a proxy may serve them under a path of its own.
    let links: Vec<_> = page.split('"').filter(|text| text.starts_with("docs/")).collect();
    assert_eq!(links, ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/docs.js"]);
    for link in links {
        let head = program.send(program.request(Method::HEAD, &format!("/{link}"), "")).await;
        assert_eq!((head.code, head.header("x-content-type-options")), (200, "nosniff"), "{link}");
        assert_eq!(head.header("cache-control"), "public, max-age=300");
    }
}

#[tokio::test]
async fn large_file_is_compressed_if_the_client_accepts_gzip() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let bundle = |accept_encoding| {
        with_header(program.request(Method::HEAD, "/docs/swagger-ui-bundle.js", ""), "accept-encoding", accept_encoding)
    };
    let (compressed, plain) = (program.send(bundle("gzip, br")).await, program.send(bundle("identity")).await);
    let encoding = |response: &TestResponse| {
        (response.code, response.headers.contains_key("content-encoding"), response.header("vary").to_owned())
    };
    assert_eq!(encoding(&compressed), (200, true, "accept-encoding".to_owned()));
    assert_eq!(encoding(&plain), (200, false, "accept-encoding".to_owned()));
    let length = |response: &TestResponse| response.header("content-length").parse::<u64>().unwrap();
    assert!(length(&compressed) * 2 < length(&plain), "{} of {}", length(&compressed), length(&plain));
    assert_ne!(compressed.header("etag"), plain.header("etag"));
}
