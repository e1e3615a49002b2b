//! One line about an error, for a log and for a condition: what failed, then why, and nothing twice.

use std::error::Error;

/// The error and its causes. What the API server answered is its message alone: `kube::Error` would add the whole
/// status as Rust writes it, which nobody reads twice.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let answer = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => Some(status.message.clone()),
            _ => None,
        };
        let (text, last) = (
            answer.clone().unwrap_or_else(|| cause.to_string()),
            answer.is_some(),
        );
        // Some errors repeat their cause in their own words.
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
        if last {
            break;
        }
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: kube::Error,
    }

    #[test]
    fn what_failed_then_why_and_nothing_twice() {
        let refused = Status::failure("Service demo is invalid", "Invalid").with_code(422);
        let unreachable = || std::io::Error::other("connection refused");
        for (error, expected) in [
            (
                Outer {
                    text: "applying Service demo failed",
                    source: kube::Error::Api(refused.boxed()),
                },
                "applying Service demo failed: Service demo is invalid",
            ),
            (
                Outer {
                    text: "reading Lease x failed",
                    source: kube::Error::Service(unreachable().into()),
                },
                "reading Lease x failed: ServiceError: connection refused",
            ),
        ] {
            assert_eq!(line(&error), expected);
        }
    }
}
