//! The command `healthcheck`, for images without a shell: asks the listener for operators whether the program is ready.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::OpsArgs;
use crate::{network::local_target, ops::config::time_limit};

/// Maximum size of a response.
const MAX_BYTES: usize = 64 * 1024;

/// The options of the command.
#[derive(Args, Clone, Copy, Debug)]
pub struct HealthcheckArgs {
    /// The address of the program.
    #[command(flatten)]
    pub ops: OpsArgs,

    /// How long to wait for the response
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = time_limit)]
    pub timeout: Duration,
}

impl HealthcheckArgs {
    /// Prints the readiness of the program.
    ///
    /// # Errors
    /// If the program is not ready, or does not respond in time.
    pub async fn run(self) -> anyhow::Result<()> {
        let address = self.ops.ops_listen.context("set --ops-listen to the address of the running program")?;
        let address = local_target(address);
        let response = timeout(self.timeout, readiness(address)).await;
        let (code, text) = response
            .with_context(|| format!("{address} does not respond within {}", humantime::format_duration(self.timeout)))?
            .with_context(|| format!("cannot ask {address}"))?;
        anyhow::ensure!(code == StatusCode::OK, "not ready: {text}");
        Ok(writeln!(io::stdout(), "{text}")?)
    }
}

/// Returns the code and the body of `/readyz`.
async fn readiness(address: SocketAddr) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let respond = async {
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(connection);
    tokio::select! {
        response = respond => response,
        Err(error) = &mut connection => Err(error.into()),
    }
}
