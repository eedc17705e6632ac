//! Reads the body of a request that is refused before anybody reads it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use futures::StreamExt;
use tokio::time::timeout;

/// How much of it is read, in bytes, and for how long: many clients only look at the answer once they have sent
/// everything, and one whose connection closes before sees none. It holds all that a usual program needs.
const DRAINED_BYTES: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads it, within bounds, and keeps nothing.
pub async fn drain(request: Request) {
    // One that waits for our word before it sends anything has not sent anything.
    if !request.headers().contains_key(header::EXPECT) {
        // However long it takes: then there is no answer to see either.
        let _ = timeout(PATIENCE, read(request.into_body())).await;
    }
}

async fn read(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut total = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        total += piece.len();
        if total > DRAINED_BYTES {
            return;
        }
    }
}
