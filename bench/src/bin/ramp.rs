//! Thousands of clients on a real cluster, and all that moves them, one after the other: `bench/ramp.sh`.

fn main() -> anyhow::Result<std::process::ExitCode> {
    bench::ramp::main()
}
