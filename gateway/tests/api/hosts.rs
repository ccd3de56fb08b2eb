//! The host of requests: requests with a missing, duplicate, invalid or contradictory host are refused.

use http::{Request, Version};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::{raw::Target, support::TestResponse};

#[tokio::test]
async fn http1_request_without_exactly_one_valid_host_is_malformed() {
    let target = Target::start().await;
    for hosts in [
        "",
        "Host: x\r\nHost: x\r\n",
        "Host: x\r\nHost: y\r\n",
        "Host: \r\n",
        "Host: a b\r\n",
        "Host: x/y\r\n",
        "Host: user@x\r\n",
        "Host: http://x\r\n",
        "Host: x:y\r\n",
        "Host: [::1\r\n",
    ] {
        for line in ["POST /v1/tasks", "GET /healthz", "GET http://x/healthz", "OPTIONS /v1/tasks"] {
            let response = target
                .send(format!("{line} HTTP/1.1\r\n{hosts}Content-Length: 2\r\n\r\n{{}}GET /healthz HTTP/1.1\r\n"))
                .await;
            response.assert_malformed();
            assert_eq!(response.header("connection"), "close", "{hosts:?} {line}");
        }
    }
    assert!(!target.backend.was_called(), "nothing was written");
    target.assert_still_serving().await;
}

#[tokio::test]
async fn http1_request_with_one_valid_host_is_served() {
    let target = Target::start().await;
    for hosts in ["Host: x\r\n", "Host: [::1]:8080\r\n", "hOST:\ttaskey.example.org:\r\n"] {
        target.send(format!("GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await.ok();
    }
    target.send("GET /healthz HTTP/1.0\r\n\r\n").await.ok();
}

#[tokio::test]
async fn http2_request_whose_host_differs_from_its_authority_is_malformed() {
    let target = Target::start().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<String>();
    let authority = target.program.address.to_string();
    let post = async |hosts: &[&str]| {
        let mut request = Request::post(format!("http://{authority}/v1/tasks")).version(Version::HTTP_2);
        for host in hosts {
            request = request.header("host", *host);
        }
        TestResponse::read(client.request(request.body("{}".to_owned()).unwrap()).await.unwrap()).await
    };
    for hosts in [&["example.org"][..], &["127.0.0.1"], &["127.0.0.1:1"], &["a b"], &[&authority, &authority]] {
        post(hosts).await.assert_malformed();
    }
    assert!(!target.backend.was_called());
    post(&[]).await.ok();
    post(&[&authority]).await.ok();
}
