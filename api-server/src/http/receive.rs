//! Reads the bodies of requests: each within its bounds, and all of them within a bound of memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;

/// How much of a body that is too large is read all the same: many clients only look at the answer once they
/// have sent everything, and a connection that is closed before shows them no answer at all.
const DRAINED_BYTES: usize = 16 * 1024 * 1024;

/// What all bodies together may take while they are read, checked and handed on, in bytes. A usual program is a few
/// KiB, so that thousands fit; without a bound a few hundred requests of the largest size would end the process.
const ROOM: usize = 64 * 1024 * 1024;

/// Room for bodies, which all requests share.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

impl Room {
    /// So many bytes.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

/// A body, which takes room until it is dropped.
#[derive(Debug, Default)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    /// Hold it as long as what was made of the body is as large.
    pub taken: Option<OwnedSemaphorePermit>,
}

/// Bounds of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its size in bytes.
    pub bytes: usize,
    /// How long it may take.
    pub patience: Duration,
}

/// Reads a body.
///
/// # Errors
/// 400 where it breaks off, 408, 413, and 503 where there is no room.
pub async fn receive(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    room: &Room,
) -> Result<Received, ApiError> {
    let received = timeout(bounds.patience, read(headers, body, bounds.bytes, room)).await;
    received.map_err(|_| {
        let message = format!(
            "the request body did not come within {} s",
            bounds.patience.as_secs()
        );
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    })?
}

async fn read(headers: &HeaderMap, body: Body, limit: usize, room: &Room) -> Result<Received, ApiError> {
    let too_large = || {
        let message = format!("the request body must be at most {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_too_long = announced.is_some_and(|length| length > limit as u64);
    // Such a client waits for our word before it sends anything; reading would give it.
    if is_too_long && headers.contains_key(header::EXPECT) {
        return Err(too_large());
    }
    let mut kept = Vec::new();
    let mut taken: Option<OwnedSemaphorePermit> = None;
    let mut has_room = true;
    let mut total = 0;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::invalid("the request body broke off"))?;
        total += piece.len();
        if total > DRAINED_BYTES.max(limit) {
            break;
        }
        if has_room && !is_too_long && total <= limit {
            match take(room, piece.len()) {
                Some(more) => match &mut taken {
                    Some(taken) => taken.merge(more),
                    None => taken = Some(more),
                },
                None => has_room = false,
            }
        }
        if !has_room || is_too_long || total > limit {
            (kept, taken) = (Vec::new(), None);
        } else {
            kept.extend_from_slice(&piece);
        }
    }
    if total > limit {
        return Err(too_large());
    }
    if !has_room {
        let message = "too many large requests arrive at once";
        return Err(ApiError::unavailable("overloaded", message, 1));
    }
    Ok(Received {
        bytes: kept.into(),
        taken,
    })
}

/// Nobody waits for room: those who have some, and wait for more, would keep it from one another.
fn take(room: &Room, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).ok()?;
    room.0.clone().try_acquire_many_owned(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 1000,
        patience: Duration::from_secs(30),
    };

    async fn receive_bytes(length: usize, room: &Room) -> Result<Received, ApiError> {
        receive(&HeaderMap::new(), Body::from(vec![b'x'; length]), BOUNDS, room).await
    }

    #[tokio::test]
    async fn bodies_without_room_are_refused_until_those_before_are_done() {
        let room = Room::of(1500);
        let first = receive_bytes(1000, &room).await.unwrap();
        let small = receive_bytes(500, &room).await.unwrap();
        let refusal = receive_bytes(1000, &room).await.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.code), (503, "overloaded"));
        assert_eq!(refusal.retry_after, Some(1));
        drop(first);
        assert_eq!(receive_bytes(1000, &room).await.unwrap().bytes.len(), 1000);
        drop(small);
        assert_eq!(room.0.available_permits(), 1500);
    }

    #[tokio::test]
    async fn what_is_too_large_takes_no_room() {
        let room = Room::of(1500);
        assert_eq!(
            receive_bytes(1001, &room).await.unwrap_err().code,
            "body_too_large"
        );
        assert_eq!(room.0.available_permits(), 1500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up_and_leaves_its_room() {
        let room = Room::of(1500);
        let began = tokio::time::Instant::now();
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let body = Body::from_stream(first.chain(futures::stream::pending()));
        let refusal = receive(&HeaderMap::new(), body, BOUNDS, &room).await.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.code), (408, "request_timeout"));
        assert_eq!(began.elapsed(), BOUNDS.patience);
        assert_eq!(room.0.available_permits(), 1500);
    }
}
