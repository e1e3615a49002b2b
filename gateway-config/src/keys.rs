//! The list of keys, derived from the types: what `parse` checks against and the reference is made of.

use serde_json::Value;

use crate::Config;

/// One key that a person can write.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// `limits.maxConnections`.
    pub path: String,
    pub kind: Kind,
    /// `null` for a key that is unset by default.
    pub default: Value,
    /// The doc comment in `config.rs`.
    pub doc: String,
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A whole number from 0 up to this one.
    Number(u64),
    Flag,
    Text,
    Texts,
    OneOf(Vec<String>),
    /// Holds other keys.
    Section,
    /// A list of entries, each with these keys; their paths begin in the entry.
    Entries(Vec<Key>),
}

impl Key {
    /// The last word of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    /// `limits.maxConnections` → `PUSHCLUSTER__LIMITS__MAX_CONNECTIONS`.
    #[must_use]
    pub fn environment(&self) -> String {
        let mut name = String::from(crate::environment::PREFIX);
        for (i, word) in self.path.split('.').enumerate() {
            if i > 0 {
                name.push_str("__");
            }
            for c in word.chars() {
                if c.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
        }
        name
    }
}

/// Every key, sections before what they hold, sections in alphabetical order.
#[must_use]
pub fn keys() -> Vec<Key> {
    let schema = schemars::schema_for!(Config).to_value();
    let defaults = serde_json::to_value(Config::default()).expect("a configuration is JSON");
    let mut keys = Vec::new();
    collect(&schema, &schema, &defaults, "", &mut keys);
    keys
}

/// The values of `config` by path, without sections.
pub(crate) fn values(config: &Config) -> Vec<(String, Value)> {
    let tree = serde_json::to_value(config).expect("a configuration is JSON");
    keys()
        .into_iter()
        .filter(|key| key.kind != Kind::Section)
        .map(|key| {
            let value = key
                .path
                .split('.')
                .fold(&tree, |at, word| &at[word])
                .clone();
            (key.path, value)
        })
        .collect()
}

fn collect(root: &Value, object: &Value, defaults: &Value, above: &str, keys: &mut Vec<Key>) {
    let Some(properties) = object["properties"].as_object() else {
        return;
    };
    let mut below: Vec<(&String, &Value, &Value)> = properties
        .iter()
        .map(|(name, property)| (name, property, resolve(root, property)))
        .collect();
    // Sorted here, values before sections: the order of a JSON map depends on which other crates are
    // built along (`serde_json/preserve_order`), and the committed reference must not.
    below.sort_by_key(|(name, _, target)| {
        let values = target["type"] == "object" || entries(root, target).is_some();
        (values, name.as_str())
    });
    for (name, property, target) in below {
        let path = if above.is_empty() {
            name.clone()
        } else {
            format!("{above}.{name}")
        };
        let kind = match entries(root, target) {
            Some(entry) => {
                let mut items = Vec::new();
                collect(root, entry, &entry_defaults(entry), "", &mut items);
                Kind::Entries(items)
            }
            None => kind(target, &path),
        };
        let doc = [property, target]
            .iter()
            .find_map(|schema| schema["description"].as_str());
        keys.push(Key {
            path: path.clone(),
            default: if kind == Kind::Section {
                Value::Null
            } else {
                defaults[name].clone()
            },
            kind: kind.clone(),
            doc: doc.unwrap_or_default().to_owned(),
        });
        if kind == Kind::Section {
            collect(root, target, &defaults[name], &path, keys);
        }
    }
}

/// What each entry of a list is, if the schema is of a list of entries.
fn entries<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let entry = resolve(root, schema.get("items")?);
    (entry["type"] == "object").then_some(entry)
}

/// What an entry has where nothing is written: `#[serde(default)]` brings it into the schema.
fn entry_defaults(entry: &Value) -> Value {
    let properties = entry["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| (name.clone(), property["default"].clone()))
        .collect()
}

/// Follows `$ref`, which schemars writes for every named type.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .expect("schemars defines what it refers to"),
        None => schema,
    }
}

fn kind(schema: &Value, path: &str) -> Kind {
    // `Option<bool>` is written as a list of two types.
    let named = match &schema["type"] {
        Value::Array(types) => types
            .iter()
            .find_map(|t| t.as_str().filter(|t| *t != "null")),
        other => other.as_str(),
    };
    let words: Vec<String> = match (&schema["enum"], &schema["oneOf"]) {
        (Value::Array(words), _) => words.iter().filter_map(word).collect(),
        (_, Value::Array(variants)) => variants.iter().filter_map(|v| word(&v["const"])).collect(),
        _ => Vec::new(),
    };
    if !words.is_empty() {
        return Kind::OneOf(words);
    }
    match named {
        Some("integer") if schema["format"] == "uint64" => Kind::Number(u64::MAX),
        Some("integer") => Kind::Number(u32::MAX.into()),
        Some("boolean") => Kind::Flag,
        Some("string") => Kind::Text,
        Some("array") => Kind::Texts,
        Some("object") => Kind::Section,
        // A new field of a new shape: the tests of this crate call `keys`, so it fails there first.
        other => panic!("{path}: no kind for a schema of type {other:?}"),
    }
}

fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
