//! Waiting for facts. A wait that fails says what it saw last.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Between two looks. Short against what a cluster does, long against what a look costs the API server.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Looks until `look` finds what it wants (`Ok`), at most until `limit` has passed. While it returns
/// `Err`, the text says what is there instead; the last such text becomes part of the error.
pub async fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut looks = interval(BETWEEN_LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = "nothing: the first look did not return".to_owned();
    loop {
        looks.tick().await;
        // A look can hang, as a stream to a pod that is just ending does.
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(instead)) => seen = format!("{instead:#}"),
            Err(_) => bail!(
                "{what}: not within {} s; last seen: {seen}",
                limit.as_secs()
            ),
        }
        if Instant::now() >= deadline {
            bail!(
                "{what}: not within {} s; last seen: {seen}",
                limit.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_what_a_later_look_finds() {
        let mut looks = 0;
        let found = eventually("three", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(looks.to_string())
            }
        });
        assert_eq!(found.await.expect("the third look finds it"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_it_saw_when_time_is_up() {
        let never = eventually("a miracle", Duration::from_secs(2), || async {
            Err::<(), _>("rain")
        });
        let error = never.await.expect_err("it never comes");
        assert_eq!(
            error.to_string(),
            "a miracle: not within 2 s; last seen: rain"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_ends_too() {
        let hangs = eventually("an answer", Duration::from_secs(2), async || {
            std::future::pending::<Result<(), String>>().await
        });
        assert!(
            hangs
                .await
                .expect_err("no answer")
                .to_string()
                .starts_with("an answer: not within")
        );
    }
}
