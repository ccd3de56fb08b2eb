//! What operators use: the listener for health checks and metrics, and the commands of the programs.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

mod ops_listener;
mod service_manager;

/// Sends a request without a body, and returns the status code and the body of the response.
async fn send(address: SocketAddr, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(format!("http://{address}{path}")).body(Empty::<Bytes>::new());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request.expect("a request")).await.expect("a response").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn get(address: SocketAddr, path: &str) -> (StatusCode, String) {
    send(address, Method::GET, path).await
}
