//! `/docs`: the reader of the contract.

use http::Method;

use crate::{
    program::{NOBODY, Program, with_header},
    support::Answer,
};

#[tokio::test]
async fn the_page_lets_no_foreign_or_inline_script_run() {
    let program = Program::before(NOBODY, NOBODY).await;
    let answer = program.get("/docs").await;
    assert_eq!((answer.code, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    for script in answer.text.split("<script").skip(1) {
        let (attributes, content) = script.split_once('>').unwrap();
        assert!(attributes.contains("src=\"/docs/") && content.starts_with("</script>"), "{script}");
    }
    assert!(!answer.text.contains("//"), "nothing comes from elsewhere");
}

#[tokio::test]
async fn all_that_the_page_refers_to_is_there() {
    let program = Program::before(NOBODY, NOBODY).await;
    let page = program.get("/docs").await.text;
    let links: Vec<_> = page.split('"').filter(|text| text.starts_with("/docs/")).collect();
    assert_eq!(links, ["/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/docs.js"]);
    for link in links {
        let head = program.send(program.request(Method::HEAD, link, "")).await;
        assert_eq!((head.code, head.header("x-content-type-options")), (200, "nosniff"), "{link}");
        assert_eq!(head.header("cache-control"), "public, max-age=300");
    }
}

#[tokio::test]
async fn what_is_large_comes_compressed_to_those_who_take_that() {
    let program = Program::before(NOBODY, NOBODY).await;
    let bundle = |accepted| {
        with_header(program.request(Method::HEAD, "/docs/swagger-ui-bundle.js", ""), "accept-encoding", accepted)
    };
    let (small, large) = (program.send(bundle("gzip, br")).await, program.send(bundle("identity")).await);
    let about = |answer: &Answer| {
        (answer.code, answer.headers.contains_key("content-encoding"), answer.header("vary").to_owned())
    };
    assert_eq!(about(&small), (200, true, "accept-encoding".to_owned()));
    assert_eq!(about(&large), (200, false, "accept-encoding".to_owned()));
    let bytes = |answer: &Answer| answer.header("content-length").parse::<u64>().unwrap();
    assert!(bytes(&small) * 2 < bytes(&large), "{} of {}", bytes(&small), bytes(&large));
    assert_ne!(small.header("etag"), large.header("etag"));
}
