//! docs/runbook.md has an entry for each reason, and for nothing else.

use std::path::Path;

use operator::reason::{Reason, Told};

struct Entry<'a> {
    title: &'a str,
    text: &'a str,
}

/// The entries of one chapter, in the order in which they stand.
fn entries<'a>(runbook: &'a str, chapter: &str) -> Vec<Entry<'a>> {
    let chapter = format!("\n## {chapter}\n");
    let (_, rest) = runbook.split_once(&chapter).expect("the chapter");
    let chapter = rest.split("\n## ").next().unwrap_or_default();
    let entries = chapter.split("\n### ").skip(1);
    entries
        .map(|entry| {
            let (title, text) = entry.split_once('\n').unwrap_or((entry, ""));
            Entry { title, text }
        })
        .collect()
}

fn runbook() -> String {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../docs/runbook.md");
    std::fs::read_to_string(path).expect("read docs/runbook.md")
}

#[test]
fn every_reason_has_an_entry_and_every_entry_is_one() {
    let runbook = runbook();
    for (chapter, mut words) in [
        (
            "Conditions",
            Reason::ALL
                .iter()
                .map(|word| word.as_str())
                .collect::<Vec<_>>(),
        ),
        (
            "Events",
            Told::ALL.iter().map(|word| word.as_str()).collect(),
        ),
    ] {
        words.sort_unstable();
        let entries = entries(&runbook, chapter);
        let titles: Vec<&str> = entries.iter().map(|entry| entry.title).collect();
        assert_eq!(titles, words, "chapter {chapter} of docs/runbook.md");
        for Entry { title, text } in entries {
            let parts = ["- **Means:** ", "- **Look at:** ", "- **Do:** "];
            let places = parts.map(|part| text.find(part));
            assert!(
                places.iter().all(Option::is_some) && places.is_sorted(),
                "{title} does not say what it means, what to look at and what to do"
            );
        }
    }
}
