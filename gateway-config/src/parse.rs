//! Text and overrides → [`Config`], or every mistake in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::keys::{Key, Kind, keys};
use crate::problem::{Override, Place, Problem};
use crate::tree::{self, Node, Value};
use crate::{Config, rules};

/// Reads a configuration. `overrides` win over `text`, and a later one over an earlier one.
///
/// The error holds every mistake, in the order of the file and then of the overrides. A rule between
/// two keys is not reported while one of them could not be read at all: it would only confuse.
pub fn parse(text: &str, overrides: &[Override]) -> Result<Config, Vec<Problem>> {
    let mut reading = Reading {
        keys: keys(),
        ..Reading::default()
    };
    match tree::read(text) {
        Ok(None) => {}
        Ok(Some(Node {
            value: Value::Map(entries),
            ..
        })) => reading.section("", &entries),
        Ok(Some(root)) => {
            let found = shown(&root.value);
            reading.report(
                "",
                &root.place,
                format!("expected `key: value` lines, found {found}"),
            );
        }
        // Nothing after a broken line can be trusted, so this one is reported alone.
        Err(problem) => return Err(vec![problem]),
    }
    for item in overrides {
        reading.take_override(item);
    }
    reading.finish()
}

#[derive(Default)]
struct Reading {
    keys: Vec<Key>,
    /// What was read so far, by path.
    values: BTreeMap<String, (Json, Place)>,
    /// Entries of lists and what is in them, by path as in `channels[0].prefix`.
    places: BTreeMap<String, Place>,
    /// Paths that were written and could not be read.
    failed: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Reading {
    fn section(&mut self, above: &str, entries: &[(String, Place, Node)]) {
        let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
        for (name, place, node) in entries {
            let path = if above.is_empty() {
                name.clone()
            } else {
                format!("{above}.{name}")
            };
            if let Some(Place::File { line, .. }) = seen.insert(name, place) {
                self.report(
                    &path,
                    place,
                    format!("written twice; the first is on line {line}"),
                );
                continue;
            }
            match self.keys.iter().find(|key| key.path == path).cloned() {
                None => {
                    let message = unknown(&self.keys, above, name);
                    self.report(&path, place, message);
                }
                Some(Key {
                    kind: Kind::Section,
                    ..
                }) => match &node.value {
                    Value::Map(entries) => self.section(&path, entries),
                    value if tree::is_empty(value) => {}
                    value => {
                        let names = names_below(&self.keys, &path).join(", ");
                        let found = shown(value);
                        let message = format!("expected keys below it ({names}), found {found}");
                        self.report(&path, &node.place, message);
                    }
                },
                Some(Key {
                    kind: Kind::Entries(items),
                    ..
                }) => self.entries(&path, &items, node),
                Some(key) => self.take(&key, &node.value, &node.place),
            }
        }
    }

    fn entries(&mut self, path: &str, items: &[Key], node: &Node) {
        let nothing = Vec::new();
        let list = match &node.value {
            Value::List(list) => list,
            value if tree::is_empty(value) => &nothing,
            value => {
                let message = format!("expected a list of entries, found {}", shown(value));
                self.failed.insert(path.to_owned());
                return self.report(path, &node.place, message);
            }
        };
        let mut entries = Vec::new();
        for (number, node) in list.iter().enumerate() {
            let path = format!("{path}[{number}]");
            self.places.insert(path.clone(), node.place.clone());
            if let Value::Map(written) = &node.value {
                entries.push(self.entry(&path, items, written));
                continue;
            }
            let names: Vec<&str> = items.iter().map(Key::name).collect();
            let message = format!(
                "expected `key: value` lines ({}), found {}",
                names.join(", "),
                shown(&node.value)
            );
            self.failed.insert(path.clone());
            self.report(&path, &node.place, message);
        }
        let value = (Json::Array(entries), node.place.clone());
        self.values.insert(path.to_owned(), value);
    }

    /// One entry of a list; what cannot be read is reported and left out.
    fn entry(&mut self, above: &str, items: &[Key], written: &[(String, Place, Node)]) -> Json {
        let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
        let mut entry = Map::new();
        for (name, place, node) in written {
            let path = format!("{above}.{name}");
            if let Some(Place::File { line, .. }) = seen.insert(name, place) {
                let message = format!("written twice; the first is on line {line}");
                self.report(&path, place, message);
                continue;
            }
            let Some(key) = items.iter().find(|key| key.path == *name) else {
                let message = unknown(items, "", name);
                self.report(&path, place, message);
                continue;
            };
            match read(key, &node.value) {
                Ok(json) => {
                    self.places.insert(path, node.place.clone());
                    entry.insert(name.clone(), json);
                }
                Err(message) => {
                    self.report(&path, &node.place, message);
                    self.failed.insert(path);
                }
            }
        }
        Json::Object(entry)
    }

    /// Where somebody wrote this.
    fn place(&self, path: &str) -> Option<Place> {
        let value = self.values.get(path).map(|(_, place)| place);
        value.or_else(|| self.places.get(path)).cloned()
    }

    fn take_override(&mut self, item: &Override) {
        let place = Place::Override(item.source.clone());
        let Some(key) = self.keys.iter().find(|key| key.path == item.path).cloned() else {
            let (above, name) = item.path.rsplit_once('.').unwrap_or(("", &item.path));
            let message = unknown(&self.keys, above, name);
            return self.report(&item.path, &place, message);
        };
        let scalar = |text: &str, quoted| Value::Scalar {
            text: text.to_owned(),
            quoted,
        };
        let value = match key.kind {
            Kind::Section => {
                let names = names_below(&self.keys, &key.path).join(", ");
                return self.report(&key.path, &place, format!("set a key below it: {names}"));
            }
            Kind::Entries(_) => {
                let message = "a list of entries is written in the file only".to_owned();
                return self.report(&key.path, &place, message);
            }
            Kind::Texts => Value::List(
                item.value
                    .split(',')
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                    .map(|text| Node {
                        place: place.clone(),
                        value: scalar(text, true),
                    })
                    .collect(),
            ),
            // An empty text is a value here; a file would write "".
            Kind::Text => scalar(&item.value, true),
            _ => scalar(item.value.trim(), false),
        };
        self.take(&key, &value, &place);
    }

    fn take(&mut self, key: &Key, value: &Value, place: &Place) {
        match read(key, value) {
            Ok(json) => {
                self.failed.remove(&key.path);
                self.values.insert(key.path.clone(), (json, place.clone()));
            }
            Err(message) => {
                self.failed.insert(key.path.clone());
                self.report(&key.path, place, message);
            }
        }
    }

    fn report(&mut self, path: &str, place: &Place, message: String) {
        self.problems.push(Problem {
            path: path.to_owned(),
            place: place.clone(),
            message,
        });
    }

    fn finish(mut self) -> Result<Config, Vec<Problem>> {
        let mut tree = Json::Object(Map::new());
        for (path, (value, _)) in &self.values {
            let at = path.split('.').fold(&mut tree, |at, word| &mut at[word]);
            *at = value.clone();
        }
        match serde_path_to_error::deserialize::<_, Config>(tree) {
            Ok(config) => {
                self.apply_rules(&config);
                if self.problems.is_empty() {
                    Ok(config)
                } else {
                    Err(self.problems)
                }
            }
            // Only a value that `read` lets through and the type refuses comes here.
            Err(e) => {
                let path = e.path().to_string();
                let place = self.place(&path).unwrap_or(Place::Default);
                self.report(&path, &place, e.into_inner().to_string());
                Err(self.problems)
            }
        }
    }

    fn apply_rules(&mut self, config: &Config) {
        let mut broken: Vec<Problem> = rules::broken(config)
            .into_iter()
            .filter(|rule| !rule.paths.iter().any(|path| self.failed.contains(path)))
            .map(|rule| {
                let written = rule.paths.iter().find(|path| self.place(path).is_some());
                let path = written.unwrap_or(&rule.paths[0]).clone();
                let place = self.place(&path).unwrap_or(Place::Default);
                Problem {
                    path,
                    place,
                    message: rule.message,
                }
            })
            .collect();
        self.problems.append(&mut broken);
        self.problems.sort_by_key(|problem| match &problem.place {
            Place::File { line, column } => (0, *line, *column),
            Place::Override(_) => (1, 0, 0),
            Place::Default => (2, 0, 0),
        });
    }
}

/// The value of a key that is no section, or what to write instead.
fn read(key: &Key, value: &Value) -> Result<Json, String> {
    if tree::is_empty(value) {
        return match key.default {
            Json::Null => Ok(Json::Null),
            _ => Err(format!(
                "has no value; leave the line out for the default, {}",
                key.default
            )),
        };
    }
    match (&key.kind, value) {
        (Kind::Number(most), value) => number(key, value, *most),
        (
            Kind::Flag,
            Value::Scalar {
                text,
                quoted: false,
            },
        ) => match text.as_str() {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            _ => Err(format!("expected true or false, found {text}")),
        },
        (Kind::Flag, value) => Err(format!("expected true or false, found {}", shown(value))),
        (Kind::Text, Value::Scalar { text, .. }) => Ok(Json::String(text.clone())),
        (Kind::Text, value) => Err(format!("expected text, found {}", shown(value))),
        (Kind::OneOf(words), value) => match value {
            Value::Scalar { text, .. } if words.contains(text) => Ok(Json::String(text.clone())),
            value => Err(format!(
                "expected {}, found {}",
                words.join(" or "),
                shown(value)
            )),
        },
        (Kind::Texts, Value::List(items)) => items
            .iter()
            .map(|item| match &item.value {
                Value::Scalar { text, .. } if !tree::is_empty(&item.value) => {
                    Ok(Json::String(text.clone()))
                }
                value => Err(format!(
                    "expected a list of texts, found {} in it",
                    shown(value)
                )),
            })
            .collect(),
        (Kind::Texts, value) => Err(format!("expected a list of texts, found {}", shown(value))),
        (Kind::Section | Kind::Entries(_), _) => unreachable!("these are taken apart before"),
    }
}

fn number(key: &Key, value: &Value, most: u64) -> Result<Json, String> {
    let name = key.name();
    let wanted = match name {
        _ if name.ends_with("Milliseconds") => "a whole number of milliseconds",
        _ if name.ends_with("Seconds") => "a whole number of seconds",
        _ if name.ends_with("Bytes") => "a whole number of bytes",
        _ => "a whole number",
    };
    let Value::Scalar { text, quoted } = value else {
        return Err(format!("expected {wanted}, found {}", shown(value)));
    };
    match text.parse::<u64>() {
        Ok(number) if number > most => Err(format!("expected {wanted} up to {most}, found {text}")),
        Ok(number) if !quoted => Ok(Json::from(number)),
        Ok(number) => Err(format!("expected {wanted}: write {number} without quotes")),
        Err(_) if text.parse::<u128>().is_ok() => {
            Err(format!("expected {wanted} up to {most}, found {text}"))
        }
        Err(_) => Err(match meant(name, text) {
            Some(number) => format!("expected {wanted}: write {number}, not {}", shown(value)),
            None => format!("expected {wanted}, found {}", shown(value)),
        }),
    }
}

/// What `30s`, `5m`, `1Mi`, `1MB` or `10_000` say in the unit of the key; None when that is not clear.
fn meant(name: &str, text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.replace('_', "").parse().ok()?;
    let (times, per) = match (unit.trim().to_ascii_lowercase().as_str(), name) {
        ("", _) => (1, 1),
        ("ms", name) if name.ends_with("Milliseconds") => (1, 1),
        ("s" | "sec" | "seconds", name) if name.ends_with("Milliseconds") => (1_000, 1),
        ("ms", name) if name.ends_with("Seconds") => (1, 1_000),
        ("s" | "sec" | "seconds", name) if name.ends_with("Seconds") => (1, 1),
        ("m" | "min", name) if name.ends_with("Seconds") => (60, 1),
        ("h", name) if name.ends_with("Seconds") => (3_600, 1),
        ("b", name) if name.ends_with("Bytes") => (1, 1),
        ("k" | "kb", name) if name.ends_with("Bytes") => (1_000, 1),
        ("m" | "mb", name) if name.ends_with("Bytes") => (1_000_000, 1),
        ("ki" | "kib", name) if name.ends_with("Bytes") => (1 << 10, 1),
        ("mi" | "mib", name) if name.ends_with("Bytes") => (1 << 20, 1),
        ("gi" | "gib", name) if name.ends_with("Bytes") => (1 << 30, 1),
        _ => return None,
    };
    let whole = number.checked_mul(times)?;
    (whole % per == 0).then_some(whole / per)
}

/// What to say about a key that does not exist.
fn unknown(keys: &[Key], above: &str, name: &str) -> String {
    let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let here = names_below(keys, above);
    let written = plain(name);
    if let Some(known) = here.iter().find(|known| plain(known) == written) {
        return format!("unknown key; did you mean {known}?");
    }
    let unitless = |known: &str| plain(known.trim_end_matches("Seconds").trim_end_matches("Bytes"));
    if let Some(known) = here.iter().find(|known| unitless(known) == written) {
        return format!("unknown key; did you mean {known}? The unit is part of the key");
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(&plain(known), &written);
    if let Some(known) = here
        .iter()
        .copied()
        .min_by_key(distance)
        .filter(|k| distance(k) <= 2)
    {
        return format!("unknown key; did you mean {known}?");
    }
    let elsewhere: Vec<&str> = keys
        .iter()
        .filter(|key| plain(key.name()) == written)
        .map(|key| &*key.path)
        .collect();
    match elsewhere.as_slice() {
        [] if here.is_empty() => "unknown key".to_owned(),
        [] => format!("unknown key; known here: {}", here.join(", ")),
        paths => format!("unknown key here; did you mean {}?", paths.join(" or ")),
    }
}

fn names_below<'a>(keys: &'a [Key], above: &str) -> Vec<&'a str> {
    keys.iter()
        .filter(|key| key.path.rsplit_once('.').map_or("", |(section, _)| section) == above)
        .map(Key::name)
        .collect()
}

/// A value in a message, shortened: a pasted file must not become one long line.
fn shown(value: &Value) -> String {
    match value {
        Value::Scalar { text, quoted } => {
            let short: String = text.chars().take(40).collect();
            let short = if short.len() < text.len() {
                format!("{short}…")
            } else {
                short
            };
            if *quoted || short.is_empty() {
                format!("{short:?}")
            } else {
                short
            }
        }
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "keys below it".to_owned(),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
