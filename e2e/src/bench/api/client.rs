//! A client that costs little beside the server: one connection, one request at a time.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection that is kept open.
pub struct Connection {
    requests: SendRequest<Full<Bytes>>,
    asked: Option<JoinHandle<hyper::Result<http::Response<Incoming>>>>,
}

impl Connection {
    /// Connects.
    pub async fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its requests.
        tokio::spawn(connection);
        Ok(Self {
            requests,
            asked: None,
        })
    }

    /// Sends a program and takes its answer, which has to be a success.
    pub async fn execute(&mut self, key: Option<&str>, body: &str) -> Result<()> {
        self.requests.ready().await?;
        let response = self.requests.send_request(request(key, body)?).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&answer);
        ensure!(
            status == StatusCode::OK && text.contains(r#""status":"success""#),
            "{status}: {text}"
        );
        Ok(())
    }

    /// Sends a program and does not wait for its answer.
    pub fn ask(&mut self, key: Option<&str>, body: &str) -> Result<()> {
        let answer = self.requests.send_request(request(key, body)?);
        self.asked = Some(tokio::spawn(answer));
        Ok(())
    }

    /// Whether what was asked is answered.
    pub fn is_answered(&self) -> bool {
        self.asked.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether the server says that it is ready.
    pub async fn is_ready(&mut self) -> Result<bool> {
        self.requests.ready().await?;
        let request = Request::get("/readyz")
            .header(header::HOST, "localhost")
            .body(Full::default())?;
        let response = self.requests.send_request(request).await?;
        let is_ready = response.status() == StatusCode::OK;
        response.into_body().collect().await?;
        Ok(is_ready)
    }
}

fn request(key: Option<&str>, body: &str) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::post("/api/execute")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    request
        .body(Full::from(body.to_owned()))
        .context("a request of ours")
}
