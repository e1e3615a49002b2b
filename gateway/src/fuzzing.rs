//! What `make fuzz` runs: one function for each place where bytes of strangers become values. A function takes any bytes,
//! and panics when something is not as it must be. It exists for tests and under cargo-fuzz only, so it may look into
//! every room, and opens none of them to anybody else.
//!
//! `gateway/fuzz/targets` has a program around each; `gateway/fuzz/seeds` has what each begins with and what was found
//! before, which a test here runs every time: a finding stays found.

mod config;
mod deflate;
mod frames;
mod http;
mod keys;
mod protocol;
mod redis;
mod tokens;

pub use config::config;
pub use deflate::deflate;
pub use frames::frames;
pub use http::http;
pub use keys::keys;
pub use protocol::protocol;
pub use redis::redis;
pub use tokens::tokens;

/// Any bytes, taken apart from the front. What is missing is 0.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// At most so many.
    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Pieces of 1 to 256 bytes, many of them short. `seed` decides: the same each time.
fn pieces(mut bytes: &[u8], mut seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        seed = seed.wrapping_mul(5).wrapping_add(113);
        let len = match seed % 4 {
            0 => 1,
            1 => 1 + usize::from(seed % 16),
            _ => 1 + usize::from(seed),
        };
        let (piece, rest) = bytes.split_at(len.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::path::Path;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 8] = [
        ("config", super::config),
        ("deflate", super::deflate),
        ("frames", super::frames),
        ("http", super::http),
        ("keys", super::keys),
        ("protocol", super::protocol),
        ("redis", super::redis),
        ("tokens", super::tokens),
    ];

    fn folder() -> std::path::PathBuf {
        let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        Path::new(&package).join("fuzz")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_that_was_found_before_is_found_again() {
        let mut broken = Vec::new();
        for (name, target) in TARGETS {
            let folder = folder().join("seeds").join(name);
            for seed in names(&folder) {
                let input = std::fs::read(folder.join(&seed)).unwrap();
                // Whole, and cut where a client may stop.
                let cuts = (0..input.len()).step_by(1 + input.len() / 20);
                for len in cuts.chain([input.len()]) {
                    if catch_unwind(|| target(&input[..len])).is_err() {
                        broken.push(format!("{name}/{seed}, its first {len} bytes"));
                        break;
                    }
                }
            }
        }
        assert!(broken.is_empty(), "see above for why: {broken:#?}");
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        let known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let programs: Vec<_> = known.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names(&folder().join("targets")), programs);
        assert_eq!(names(&folder().join("seeds")), known);
        for name in known {
            assert!(
                !names(&folder().join("seeds").join(&name)).is_empty(),
                "{name}"
            );
        }
    }
}
