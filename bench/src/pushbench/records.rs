//! Records as files: a line of JSON for each second, written while it runs, and read again by `plot`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::arguments::Plot;
use super::profile::Part;
use super::record::{Line, Run};
use super::{charts, table};
use crate::chart::lines;

/// Of a record's file.
const ENDING: &str = "jsonl";

pub struct Writer {
    file: Option<File>,
    pub lines: Vec<Line>,
}

impl Writer {
    /// Keeps the lines, and writes them into a file of this part if there is a folder. A record that was there is gone.
    pub fn new(folder: Option<&Path>, part: Part) -> io::Result<Writer> {
        let file = folder.map(|folder| {
            std::fs::create_dir_all(folder)?;
            let name = format!("{}-of-{}.{ENDING}", part.number, part.of);
            File::create(folder.join(name))
        });
        Ok(Writer {
            file: file.transpose()?,
            lines: Vec::new(),
        })
    }

    pub fn write(&mut self, line: Line) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
        }
        self.lines.push(line);
        Ok(())
    }
}

/// All records in these folders.
pub fn read(folders: &[PathBuf]) -> anyhow::Result<Run> {
    let mut lines = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder);
        let entries = entries.with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                let read = read_one(&path, &mut lines);
                read.with_context(|| format!("read {}", path.display()))?;
            }
        }
    }
    if lines.is_empty() {
        bail!("no record (*.{ENDING}) in {folders:?}");
    }
    Ok(Run::of(lines))
}

fn read_one(path: &Path, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let line = serde_json::from_str(&line?);
        lines.push(line.with_context(|| format!("line {}", number + 1))?);
    }
    Ok(())
}

/// `pushbench plot`.
pub fn plot(plot: &Plot) -> anyhow::Result<ExitCode> {
    let run = read(&plot.folders)?;
    show(&run, plot.budget, Some(&plot.folders[0]))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the table, and writes it and the charts into the folder, if there is one.
pub fn show(run: &Run, budget: Option<f64>, folder: Option<&Path>) -> anyhow::Result<()> {
    let table = table::table(run, budget);
    let mut out = io::stdout().lock();
    write!(out, "{table}")?;
    let Some(folder) = folder else { return Ok(()) };
    let charts = charts::of(run, budget).into_iter();
    let charts = charts.map(|(name, lines)| (format!("{name}.svg"), lines::draw(&lines)));
    for (name, text) in charts.chain([("table.txt".to_owned(), table.clone())]) {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
