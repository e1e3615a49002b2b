//! Waits for facts, with a deadline that fails the test and says what was missing.

use std::future::Future;
use std::time::Duration;

/// Long enough for a machine that is busy; a test that passes never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The future's value, or a failure that names `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Asks until the answer is `Ok`; the failure shows the last `Err`.
pub async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        match ask().await {
            Ok(value) => return value,
            Err(last) if tokio::time::Instant::now() > end => panic!("{what}: {last}"),
            Err(_) => {}
        }
    }
}
