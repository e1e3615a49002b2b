//! Lists the benches. There is none yet: figures without a floor and a peer beside them say nothing, so
//! the first one comes with both.

use std::io::{self, Write};

/// Name, and what it measures against which floor and peers.
const BENCHES: &[(&str, &str)] = &[];

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    if BENCHES.is_empty() {
        writeln!(out, "No bench yet.")?;
    }
    for (name, what) in BENCHES {
        writeln!(out, "{name}\t{what}")?;
    }
    Ok(())
}
