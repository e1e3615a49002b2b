//! The reference of all keys, in Markdown, made from the types.

use std::fmt::Write;

use crate::keys::{Key, Kind, keys};
use crate::reload::{Reload, reload};

/// `docs/gateway-config.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# The gateway's configuration\n\n\
         <!-- Made from gateway-config/src/config.rs: UPDATE_DOCS=1 cargo test -p gateway-config -->\n\n\
         One YAML file (`gateway --config FILE`, or `PUSHCLUSTER_CONFIG`). Every key may be left out. A key\n\
         is also an environment variable (`limits.maxConnections` is `PUSHCLUSTER__LIMITS__MAX_CONNECTIONS`)\n\
         and a flag (`--set limits.maxConnections=5`); a flag wins over the environment, the environment over\n\
         the file. A list is separated by commas there; lists of entries (`name[]`) are written in the file only.\n\
         `gateway check FILE` explains every mistake in a file.\n\n\
         A gateway reads its file again when it changes. What is `live` counts from then on, also for those who are\n\
         connected; what is `restart` stays as it was until the process starts again. A file with a mistake changes\n\
         nothing. [More](admin-port.md#the-configuration-read-again).\n",
    );
    for key in keys() {
        let doc = key.doc.replace('\n', " ");
        match &key.kind {
            Kind::Section => heading(&mut text, &key.path, &doc),
            Kind::Entries(items) => {
                heading(&mut text, &format!("{}[]", key.path), &doc);
                for item in items {
                    row(&mut text, &format!("{}[].{}", key.path, item.path), item);
                }
            }
            _ => row(&mut text, &key.path, &key),
        }
    }
    text
}

fn heading(text: &mut String, name: &str, doc: &str) {
    let _ = write!(
        text,
        "\n## {name}\n\n{doc}\n\n| key | takes | default | a new value | |\n|---|---|---|---|---|\n"
    );
}

fn row(text: &mut String, path: &str, key: &Key) {
    let takes = match &key.kind {
        Kind::Number(_) if key.name().ends_with("Milliseconds") => "milliseconds".to_owned(),
        Kind::Number(_) if key.name().ends_with("Seconds") => "seconds".to_owned(),
        Kind::Number(_) if key.name().ends_with("Bytes") => "bytes".to_owned(),
        Kind::Number(_) => "number".to_owned(),
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::OneOf(words) => format!("`{}`", words.join("`, `")),
        Kind::Section | Kind::Entries(_) => String::new(),
    };
    let default = match &key.default {
        serde_json::Value::Null => "unset".to_owned(),
        other => format!("`{other}`"),
    };
    let counts = match reload(path) {
        Reload::Live => "live",
        Reload::Restart => "restart",
    };
    let doc = key.doc.replace('\n', " ").replace('|', "\\|");
    let _ = writeln!(
        text,
        "| `{path}` | {takes} | {default} | {counts} | {doc} |"
    );
}

#[cfg(test)]
mod tests {
    use crate::Kind;

    #[test]
    fn the_committed_reference_is_made_from_the_types() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        let path = format!("{folder}/../docs/gateway-config.md");
        let made = super::reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "{path} is stale: UPDATE_DOCS=1 cargo test -p gateway-config"
        );
    }

    #[test]
    fn every_key_is_explained() {
        for key in crate::keys() {
            assert!(!key.doc.is_empty(), "{} has no doc comment", key.path);
            if let Kind::Entries(items) = key.kind {
                for item in items {
                    assert!(!item.doc.is_empty(), "{} has no doc comment", item.path);
                }
            }
        }
    }
}
