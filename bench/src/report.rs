//! What a bench found: a table to read, and the same as JSON for whoever compares runs.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::chart;
use crate::statistics::Paired;

/// One comparison. Numbers are missing where one side could not be measured; `note` says why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `bench/size`.
    pub name: String,
    pub ours: Option<f64>,
    pub against: String,
    pub theirs: Option<f64>,
    /// Ours ÷ theirs: median, least and most of the paired rounds.
    pub ratio: Option<f64>,
    pub ratio_min: Option<f64>,
    pub ratio_max: Option<f64>,
    pub unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    pub fn new(name: &str, against: &str, unit: &str, paired: Paired) -> Row {
        Row {
            name: name.to_owned(),
            ours: Some(rounded(paired.ours)),
            against: against.to_owned(),
            theirs: Some(rounded(paired.theirs)),
            ratio: Some(rounded(paired.ratio)),
            ratio_min: Some(rounded(paired.ratio_min)),
            ratio_max: Some(rounded(paired.ratio_max)),
            unit: unit.to_owned(),
            note: None,
        }
    }

    pub fn not_measured(name: &str, against: &str, unit: &str, why: &str) -> Row {
        Row {
            name: name.to_owned(),
            ours: None,
            against: against.to_owned(),
            theirs: None,
            ratio: None,
            ratio_min: None,
            ratio_max: None,
            unit: unit.to_owned(),
            note: Some(format!("not measured: {why}")),
        }
    }
}

/// Four digits that mean something; more would claim what was not measured.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    // At most about 300 in size: the exponent of any double.
    #[expect(clippy::cast_possible_truncation, reason = "an exponent is small")]
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits.max(0));
    (value * scale).round() / scale
}

#[derive(Serialize)]
struct Document<'a> {
    rows: &'a [Row],
}

/// Writes `<name>.json` and `<name>.svg` into the folder.
pub fn write(folder: &Path, name: &str, rows: &[Row]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut json = serde_json::to_string_pretty(&Document { rows })?;
    json.push('\n');
    std::fs::write(folder.join(format!("{name}.json")), json)?;
    std::fs::write(folder.join(format!("{name}.svg")), chart::draw(name, rows))
}

pub const HEADINGS: [&str; 6] = ["row", "ours", "theirs", "against", "ratio", "unit"];

/// The cells of a row, as [`HEADINGS`] name them.
pub fn cells(row: &Row) -> [String; 6] {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
    let ratio = match (row.ratio, row.ratio_min, row.ratio_max) {
        (Some(ratio), Some(min), Some(max)) => format!("{ratio:.3} ({min:.3} to {max:.3})"),
        _ => "-".to_owned(),
    };
    [
        row.name.clone(),
        number(row.ours),
        number(row.theirs),
        row.against.clone(),
        ratio,
        row.note.clone().unwrap_or_else(|| row.unit.clone()),
    ]
}

/// With separated thousands, or with a fraction where that is all there is.
fn shown(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Lines of equal columns.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let [name, ours, theirs, against, ratio, unit] = line;
        let text = format!(
            "{name:<0$}  {ours:>1$}  {theirs:>2$}  {against:<3$}  {ratio:<4$}  {unit}",
            widths[0], widths[1], widths[2], widths[3], widths[4]
        );
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::paired;

    fn rows() -> Vec<Row> {
        let rounds = [(98_000.0, 100_000.0), (51_000.0, 50_000.0), (1.9, 2.0)];
        vec![
            Row::new(
                "fanout/1000x128",
                "raw-epoll",
                "per second",
                paired(&rounds),
            ),
            Row::not_measured("fanout/1000x128", "other", "per second", "no PEERS"),
        ]
    }

    #[test]
    fn the_json_has_the_form_that_others_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "fanout", &rows()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("fanout.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json["rows"][0],
            serde_json::json!({
                "name": "fanout/1000x128", "ours": 51_000.0, "against": "raw-epoll", "theirs": 50_000.0,
                "ratio": 0.98, "ratio_min": 0.95, "ratio_max": 1.02, "unit": "per second",
            })
        );
        assert_eq!(json["rows"][1]["ratio"], serde_json::Value::Null);
        assert_eq!(json["rows"][1]["note"], "not measured: no PEERS");
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let expected = "\
row                ours  theirs  against    ratio                   unit
fanout/1000x128  51,000  50,000  raw-epoll  0.980 (0.950 to 1.020)  per second
fanout/1000x128       -       -  other      -                       not measured: no PEERS
";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn numbers_are_cut_to_what_was_measured() {
        for (value, kept, text) in [
            (0.0, 0.0, "0.00"),
            (0.987_654, 0.9877, "0.99"),
            (12.3456, 12.35, "12.35"),
            (123_456.7, 123_457.0, "123,457"),
            (1_234_567.0, 1_234_567.0, "1,234,567"),
            (f64::INFINITY, 0.0, "0.00"),
        ] {
            assert!((rounded(value) - kept).abs() < 1e-9, "{value}");
            assert_eq!(shown(kept), text);
        }
    }
}
