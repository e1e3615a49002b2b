#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway::fuzzing::protocol(input));

#[cfg(not(fuzzing))]
fn main() {}
