//! A configuration without what is as by default.

use serde_yaml::{Mapping, Value};

use crate::{ChannelPolicy, Config};

/// In the order of the keys in the reference.
pub fn without_defaults(config: &Config) -> Value {
    let mut tree = other(tree(config), &tree(&Config::default()));
    if let Some(Value::Sequence(channels)) = tree.get_mut("channels") {
        let default = self::tree(&ChannelPolicy::default());
        for channel in channels {
            *channel = other(channel.clone(), &default);
        }
    }
    tree
}

/// What of `own` is not as in `default`; a list is one value.
fn other(own: Value, default: &Value) -> Value {
    let Value::Mapping(own) = own else {
        return own;
    };
    let mut kept = Mapping::new();
    for (key, value) in own {
        match default.get(&key) {
            Some(default) if *default == value => {}
            Some(default) => drop(kept.insert(key, other(value, default))),
            None => drop(kept.insert(key, value)),
        }
    }
    Value::Mapping(kept)
}

fn tree(part: &impl serde::Serialize) -> Value {
    serde_yaml::to_value(part).expect("a configuration is maps, lists, texts and numbers")
}
