//! Clients as real ones are, in any number, against a running cluster: `pushbench run --help`.

fn main() -> anyhow::Result<std::process::ExitCode> {
    bench::pushbench::main()
}
