//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Short enough to measure the 2 s that a cancelled Pod may take, long enough not to load a small machine.
const INTERVAL: Duration = Duration::from_millis(40);

/// Asks `probe` until it has an answer.
///
/// # Errors
/// When `probe` fails, or has no answer within `bound`; `what` says what was waited for.
pub async fn wait_until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        // The probe itself may hang, for example on a server that was just killed.
        let left = bound.saturating_sub(began.elapsed()).max(INTERVAL);
        match tokio::time::timeout(left, probe()).await {
            Ok(answer) => {
                if let Some(found) = answer.with_context(|| format!("while waiting until {what}"))? {
                    return Ok(found);
                }
            }
            Err(_) => bail!("not within {bound:?}, and the last look at it hangs: {what}"),
        }
        if began.elapsed() >= bound {
            bail!("not within {bound:?}: {what}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Waits for a time in which something must *not* happen. Everything else waits for what does happen.
pub async fn for_as_long_as(time: Duration) {
    tokio::time::sleep(time).await;
}
