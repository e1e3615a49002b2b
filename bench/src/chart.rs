//! The ratios as a picture: a bar for each row, its range as a line, and the mark of equals. Pure.

use std::fmt::Write;

use crate::report::Row;

pub mod lines;

/// All in pixels.
const WIDTH: f64 = 900.0;
const LABELS: f64 = 330.0;
const NUMBERS: f64 = 150.0;
const LINE: f64 = 22.0;
const TOP: f64 = 48.0;
/// What a ratio of 2 or more looks like: the bar ends at the edge, and the number says the rest.
const SHOWN_RATIO: f64 = 2.0;

/// An SVG document.
pub fn draw(name: &str, rows: &[Row]) -> String {
    // Rows are few.
    #[expect(clippy::cast_precision_loss, reason = "rows are few")]
    let height = TOP + LINE * rows.len() as f64 + 12.0;
    let mut svg = begun(height, &format!("{name}: ours ÷ theirs"));
    let mut y = TOP;
    for row in rows {
        line(&mut svg, row, y);
        y += LINE;
    }
    let equals = across(1.0);
    let _ = writeln!(
        svg,
        "<line x1=\"{equals}\" y1=\"{}\" x2=\"{equals}\" y2=\"{}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>",
        TOP - 8.0,
        height - 8.0
    );
    svg.push_str("</svg>\n");
    svg
}

/// A white page with a title; who draws on it ends it with `</svg>`.
fn begun(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    )
}

fn line(svg: &mut String, row: &Row, y: f64) {
    let (text, middle) = (y + 13.0, y + 9.0);
    let _ = writeln!(
        svg,
        "<text x=\"12\" y=\"{text}\">{} ÷ {}</text>",
        escaped(&row.name),
        escaped(&row.against)
    );
    let (Some(ratio), Some(min), Some(max)) = (row.ratio, row.ratio_min, row.ratio_max) else {
        let _ = writeln!(
            svg,
            "<text x=\"{LABELS}\" y=\"{text}\" fill=\"#888\">not measured</text>"
        );
        return;
    };
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"16\" fill=\"#4a90c2\"/>\n\
         <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"#123\" stroke-width=\"2\"/>\n\
         <text x=\"{}\" y=\"{text}\">{ratio:.2} ({min:.2} to {max:.2})</text>",
        across(ratio) - LABELS,
        across(min),
        across(max),
        WIDTH - NUMBERS + 12.0
    );
}

/// Where a ratio lies.
fn across(ratio: f64) -> f64 {
    LABELS + (WIDTH - LABELS - NUMBERS) * ratio.clamp(0.0, SHOWN_RATIO) / SHOWN_RATIO
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::paired;

    #[test]
    fn each_row_is_drawn_and_nothing_leaves_the_picture() {
        let row = |ours| Row::new("a<b", "c", "u", paired(&[(ours, 1.0)]));
        let missing = Row::not_measured("d", "e", "u", "why");
        let svg = draw("fanout", &[row(0.5), row(50.0), missing]);
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("a&lt;b ÷ c") && svg.contains("0.50 (0.50 to 0.50)"));
        assert!(svg.contains("width=\"105.0\"") && svg.contains("width=\"420.0\""));
        assert!(svg.contains("not measured"));
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }
}
