//! What changes over time as a picture: a line for each series over seconds, with axes that begin at 0. Pure.

use std::fmt::Write;

use super::{WIDTH, begun, escaped};

/// All in pixels.
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;
const LEGEND_LINE: f64 = 18.0;
/// Parts of an axis, about.
const TICKS: f64 = 5.0;
/// Told apart also by those who do not see all colours: Okabe and Ito, <https://jfly.uni-koeln.de/color/>.
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
/// Series that have a line in the legend; more would leave the picture.
const NAMED: usize = 11;

pub struct Series {
    pub name: String,
    /// Seconds and values; None breaks the line.
    pub points: Vec<(f64, Option<f64>)>,
}

pub struct Lines {
    pub title: String,
    /// What the values are.
    pub unit: String,
    pub series: Vec<Series>,
    /// A value that is drawn across, and its name.
    pub bound: Option<(f64, String)>,
    /// Moments that are drawn from top to bottom, in seconds, and what began there.
    pub marks: Vec<(f64, String)>,
}

/// Ends and steps of the axes.
struct Axes {
    seconds: f64,
    most: f64,
}

impl Axes {
    fn of(lines: &Lines) -> Axes {
        let points = || lines.series.iter().flat_map(|series| &series.points);
        let values = points().filter_map(|(_, value)| *value);
        let bound = lines.bound.iter().map(|(value, _)| *value);
        let most = values.chain(bound).fold(0.0, f64::max);
        let seconds = points().map(|(second, _)| *second).fold(1.0, f64::max);
        let step = step(most);
        Axes {
            seconds,
            most: ((most / step).ceil() * step).max(step),
        }
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.most
    }
}

/// 1, 2 or 5 times a power of ten, so that there are about [`TICKS`] up to `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|times| times * power >= rough);
    times.unwrap_or(10.0) * power
}

/// From 0 to `most`.
fn ticks(most: f64) -> impl Iterator<Item = f64> {
    let step = step(most);
    (0..=20u32)
        .map(move |n| f64::from(n) * step)
        .take_while(move |tick| *tick <= most * 1.000_1)
}

/// An SVG document.
pub fn draw(lines: &Lines) -> String {
    let axes = Axes::of(lines);
    let mut svg = begun(HEIGHT, &format!("{}, {}", lines.title, lines.unit));
    grid(&mut svg, &axes);
    for (series, colour) in lines.series.iter().zip(COLOURS.iter().cycle()) {
        polylines(&mut svg, &axes, series, colour);
    }
    let mut y = TOP + 6.0;
    let x = WIDTH - RIGHT + 16.0;
    for (series, colour) in lines.series.iter().zip(COLOURS.iter().cycle()).take(NAMED) {
        let name = escaped(&series.name);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 6.0,
            x + 18.0
        );
        y += LEGEND_LINE;
    }
    if let Some((value, name)) = &lines.bound {
        let at = axes.y(*value);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{0}\" y2=\"{at:.1}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{1}\" y=\"{y}\">- - {2}</text>",
            WIDTH - RIGHT,
            x,
            escaped(name)
        );
    }
    marks(&mut svg, &axes, &lines.marks);
    svg.push_str("</svg>\n");
    svg
}

/// Names stand on their lines, so that they do not meet each other.
fn marks(svg: &mut String, axes: &Axes, marks: &[(f64, String)]) {
    let floor = HEIGHT - BOTTOM;
    for (second, name) in marks {
        let x = axes.x(*second);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{floor}\" stroke=\"#999\" stroke-dasharray=\"2 3\"/>\
             <text transform=\"translate({:.1} {TOP}) rotate(90)\" font-size=\"9\" fill=\"#666\">{}</text>",
            x + 3.0,
            escaped(name)
        );
    }
}

fn grid(svg: &mut String, axes: &Axes) {
    let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in ticks(axes.most) {
        let y = axes.y(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            shown(tick)
        );
    }
    for tick in ticks(axes.seconds) {
        let x = axes.x(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{floor}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#333\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            floor + 4.0,
            floor + 18.0,
            shown(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{floor}\" x2=\"{right}\" y2=\"{floor}\" stroke=\"#333\"/>\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">seconds</text>",
        HEIGHT - 8.0
    );
}

/// One for each part without a break.
fn polylines(svg: &mut String, axes: &Axes, series: &Series, colour: &str) {
    for part in series.points.split(|(_, value)| value.is_none()) {
        let points: Vec<_> = part
            .iter()
            .filter_map(|(second, value)| {
                let y = axes.y((*value)?);
                Some(format!("{:.1},{y:.1}", axes.x(*second)))
            })
            .collect();
        if let [only] = &points[..] {
            let (x, y) = only.split_once(',').unwrap_or_default();
            let _ = writeln!(
                svg,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"1.5\" fill=\"{colour}\"/>"
            );
        } else if !points.is_empty() {
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
                points.join(" ")
            );
        }
    }
}

/// Without digits that say nothing.
fn shown(tick: f64) -> String {
    let text = format!("{tick:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps() {
        for (most, expected) in [
            (0.0, 1.0),
            (0.4, 0.1),
            (5.0, 1.0),
            (9.0, 2.0),
            (37.0, 10.0),
            (10_000.0, 2_000.0),
        ] {
            assert!(
                (step(most) - expected).abs() < expected / 1e6,
                "{most}: {}",
                step(most)
            );
        }
        assert_eq!(
            ticks(10.0).collect::<Vec<_>>(),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        );
        for (tick, text) in [(0.0, "0"), (0.5, "0.5"), (2_000.0, "2000"), (0.02, "0.02")] {
            assert_eq!(shown(tick), text);
        }
    }

    #[test]
    fn each_series_is_drawn_and_breaks_where_nothing_is_known() {
        let series = |name: &str, values: &[Option<f64>]| Series {
            name: name.to_owned(),
            points: (0u32..)
                .map(f64::from)
                .zip(values.iter().copied())
                .collect(),
        };
        let lines = Lines {
            title: "a<b".to_owned(),
            unit: "ms".to_owned(),
            series: vec![
                series("one", &[Some(0.0), Some(4.0), None, Some(2.0), None, None]),
                series("two", &[Some(1.0); 11]),
            ],
            bound: Some((10.0, "budget".to_owned())),
            marks: vec![(5.0, "x<y".to_owned())],
        };
        let svg = draw(&lines);
        assert!(
            svg.contains("a&lt;b, ms")
                && svg.contains(">one<")
                && svg.contains(">- - budget<")
                && svg.contains(">x&lt;y<")
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 1);
        // The bound is the highest, at the top; the first series begins at the floor and rises to 0.4 of the height.
        assert!(svg.contains("y1=\"44.0\""), "{svg}");
        assert!(svg.contains("points=\"70.0,256.0 134.0,171.2\""), "{svg}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn nothing_to_draw_is_a_picture_too() {
        let svg = draw(&Lines {
            title: String::new(),
            unit: String::new(),
            series: vec![],
            bound: None,
            marks: vec![],
        });
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
