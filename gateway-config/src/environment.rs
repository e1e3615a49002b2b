//! Settings from environment variables: `PUSHCLUSTER__LIMITS__MAX_CONNECTIONS=5`.

use crate::keys::{Kind, keys};
use crate::problem::{Override, Place, Problem};

/// Two underscores, so that a variable which Kubernetes makes for a Service named `pushcluster`
/// (`PUSHCLUSTER_SERVICE_HOST`, `PUSHCLUSTER_PORT`, …) is never taken for a setting.
pub(crate) const PREFIX: &str = "PUSHCLUSTER__";

/// Picks the settings out of the environment. A variable with our prefix that is no key is a mistake:
/// a setting that silently does nothing is worse than none.
#[must_use]
pub fn overrides_from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Override>, Vec<Problem>) {
    let keys: Vec<_> = keys()
        .into_iter()
        .filter(|key| key.kind != Kind::Section)
        .collect();
    let names: Vec<String> = keys.iter().map(crate::Key::environment).collect();
    let (mut overrides, mut problems) = (Vec::new(), Vec::new());
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with("PUSHCLUSTER_"))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let source = format!("environment {name}");
        if let Some(i) = names.iter().position(|known| *known == name) {
            overrides.push(Override {
                path: keys[i].path.clone(),
                value,
                source,
            });
            continue;
        }
        let meant = names
            .iter()
            .find(|known| squeeze(known) == squeeze(&name))
            .or_else(|| {
                let near = |known: &&String| strsim::damerau_levenshtein(known, &name) <= 3;
                names.iter().find(near).filter(|_| name.starts_with(PREFIX))
            });
        let message = match meant {
            Some(meant) => format!("is not a setting; did you mean {meant}?"),
            None if name.starts_with(PREFIX) && !made_by_kubernetes(&name) => {
                "is not a setting".to_owned()
            }
            None => continue,
        };
        problems.push(Problem {
            path: String::new(),
            place: Place::Override(source),
            message,
        });
    }
    (overrides, problems)
}

/// `PUSHCLUSTER_LIMITS_MAX_CONNECTIONS`, which people write first, and the right name come out the same.
fn squeeze(name: &str) -> String {
    name.replace('_', "")
}

/// A Service named `pushcluster--x` brings even the double underscore; no key of ours ends like this.
fn made_by_kubernetes(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || {
        name.split_once("_PORT").is_some_and(|(_, rest)| {
            rest.is_empty()
                || rest
                    .trim_start_matches('_')
                    .starts_with(|c: char| c.is_ascii_digit())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        for (name, expected) in [
            (
                "PUSHCLUSTER__LIMITS__MAX_CONNECTIONS",
                Ok(Some("limits.maxConnections")),
            ),
            (
                "PUSHCLUSTER__AUTH__HS256_KEY_FILE",
                Ok(Some("auth.hs256KeyFile")),
            ),
            (
                "PUSHCLUSTER__BROKER__REDIS__URL",
                Ok(Some("broker.redis.url")),
            ),
            ("PATH", Ok(None)),
            ("PUSHCLUSTER_CONFIG", Ok(None)),
            ("PUSHCLUSTER_SERVICE_HOST", Ok(None)),
            ("PUSHCLUSTER_PORT_8080_TCP_ADDR", Ok(None)),
            ("PUSHCLUSTER__X_SERVICE_PORT_HTTP", Ok(None)),
            ("PUSHCLUSTER__X_PORT", Ok(None)),
            ("PUSHCLUSTER__NONSENSE", Err("is not a setting")),
            (
                "PUSHCLUSTER_LIMITS_MAX_CONNECTIONS",
                Err("is not a setting; did you mean PUSHCLUSTER__LIMITS__MAX_CONNECTIONS?"),
            ),
            (
                "PUSHCLUSTER__LIMITS__MAX_CONECTIONS",
                Err("is not a setting; did you mean PUSHCLUSTER__LIMITS__MAX_CONNECTIONS?"),
            ),
        ] {
            let (overrides, problems) =
                overrides_from_environment([(name.to_owned(), "5".to_owned())]);
            let path = overrides.first().map(|o| o.path.as_str());
            match problems.first() {
                None => assert_eq!(Ok(path), expected, "{name}"),
                Some(p) => {
                    assert_eq!(Err(p.message.as_str()), expected, "{name}");
                    assert_eq!(p.place, Place::Override(format!("environment {name}")));
                }
            }
        }
    }
}
