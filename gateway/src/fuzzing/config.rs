//! The configuration: a file, and what the environment and flags say over it.

use gateway_config::{Override, overrides_from_environment, parse};

/// A file; after a line `---` of its own, variables of the environment, and `key=value` as flags have it.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (file, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
    let written: Vec<_> = rest
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let variables = written
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (mut overrides, mut problems) = match written.is_empty() {
        true => Default::default(),
        false => overrides_from_environment(variables),
    };
    let flags = written
        .iter()
        .filter(|(name, _)| !name.starts_with("PUSHCLUSTER"));
    overrides.extend(flags.map(|(path, value)| Override {
        path: (*path).to_owned(),
        value: (*value).to_owned(),
        source: "flag --set".to_owned(),
    }));
    match parse(file, &overrides) {
        Ok(config) => {
            let yaml = config.to_yaml();
            let again = parse(&yaml, &[]).unwrap_or_else(|e| panic!("{yaml}\n{e:?}"));
            assert_eq!(again, config, "the file that says it");
            let _ = config.differences();
        }
        Err(mut found) => {
            assert!(!found.is_empty(), "refused, and nobody knows why");
            problems.append(&mut found);
        }
    }
    for problem in problems {
        assert!(!problem.message.is_empty());
        let line = problem.in_file("gateway.yaml").to_string();
        assert!(
            line.len() > problem.message.len() || problem.path.is_empty(),
            "names no place: {line}"
        );
    }
}
