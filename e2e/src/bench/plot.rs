//! The report as a picture: a bar for each median with a mark at the 99th percentile, and a bar for each rate.
//!
//! Written by hand: it is a few rectangles and lines, and only a stylesheet of its own makes it readable on a
//! light and on a dark page.

use std::fmt::Write;

use super::{Rate, Report, Summary};

/// Kinds in the order of the picture, each beside its floor. Others come behind them.
const TIMES: [&str; 20] = [
    "warm",
    "warm_refilling",
    "warm_pandas",
    "live",
    "floor.warm",
    "burst8",
    "burst16",
    "cold",
    "floor.pod",
    "floor.attached",
    "local",
    "floor.python",
    "layers.cold",
    "bare.cold",
    "layers.warm",
    "bare.warm",
    "floor.userns",
    "floor.hostns",
    "floor.runtime",
    "floor.plain",
];
const RATES: [&str; 5] = [
    "sustained",
    "pods",
    "sustained_preload",
    "pods_preload",
    "sustained_reuse",
];

/// How the names of those begin that others are measured by.
const FLOORS: [&str; 3] = ["floor.", "bare.", "pods"];

const WIDTH: f64 = 800.0;
/// Where bars begin and end; the names stand before, the figures behind.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 630.0;
/// Right edges of the columns of figures.
const FIRST_COLUMN: f64 = 705.0;
const SECOND_COLUMN: f64 = 785.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;

const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .note { fill: #59636e }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .page { fill: #ffffff }
  .grid { stroke: #d1d9e0 }
  .bar { fill: #0969da }
  .floor { fill: #8c959f }
  .tail { stroke: #1f2328; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .note { fill: #9198a1 }
    .page { fill: #0d1117 }
    .grid { stroke: #3d444d }
    .bar { fill: #4493f8 }
    .floor { fill: #656c76 }
    .tail { stroke: #f0f6fc }
  }
";

/// The picture; nothing where the report has neither times nor rates.
#[must_use]
pub fn svg(report: &Report) -> Option<String> {
    let times = in_order(
        &TIMES,
        report.times.iter().map(|(kind, summary)| (*kind, *summary)),
    );
    let rates = in_order(&RATES, report.rates.iter().map(|(kind, rate)| (*kind, *rate)));
    if times.is_empty() && rates.is_empty() {
        return None;
    }
    let mut picture = Picture::default();
    if !times.is_empty() {
        picture.times(&times);
    }
    if !rates.is_empty() {
        picture.rates(&rates);
    }
    Some(picture.finish())
}

/// What there is, in this order, and then what the order does not know.
fn in_order<T: Copy>(
    order: &[&str],
    found: impl Iterator<Item = (&'static str, T)>,
) -> Vec<(&'static str, T)> {
    let mut found: Vec<_> = found.collect();
    // Stable: the unknown ones stay as they are among each other.
    found.sort_by_key(|(kind, _)| {
        order
            .iter()
            .position(|known| known == kind)
            .unwrap_or(order.len())
    });
    found
}

fn class(kind: &str) -> &'static str {
    if FLOORS.iter().any(|floor| kind.starts_with(floor)) {
        "floor"
    } else {
        "bar"
    }
}

/// Milliseconds on a logarithmic axis of whole decades.
struct Decades {
    first: i32,
    last: i32,
}

impl Decades {
    fn around(times: &[(&str, Summary)]) -> Self {
        let shortest = times
            .iter()
            .map(|(_, summary)| summary.p50_ms)
            .fold(f64::MAX, f64::min);
        let longest = times
            .iter()
            .map(|(_, summary)| summary.p99_ms)
            .fold(0.0, f64::max);
        // The shortest bar keeps some length; a report rounds to hundredths, so that 0 is less than one.
        let first = (shortest.max(0.01) / 2.0).log10().floor();
        let last = longest.max(0.01).log10().ceil().max(first + 1.0);
        // Times of a benchmark have a few decades.
        #[allow(clippy::cast_possible_truncation)]
        Self {
            first: first as i32,
            last: last as i32,
        }
    }

    fn x(&self, ms: f64) -> f64 {
        let (first, last) = (f64::from(self.first), f64::from(self.last));
        let share = (ms.max(0.01).log10() - first) / (last - first);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

/// A power of ten as people say it.
fn decade(exponent: i32) -> String {
    if exponent >= 3 {
        format!("{} s", 10_f64.powi(exponent - 3))
    } else {
        format!("{} ms", 10_f64.powi(exponent))
    }
}

/// What is drawn so far, from the top down.
#[derive(Default)]
struct Picture {
    body: String,
    height: f64,
}

impl Picture {
    fn add(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.add(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#
        ));
    }

    fn line(&mut self, x: f64, from: f64, to: f64, class: &str) {
        self.add(&format!(
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{from:.1}" y2="{to:.1}" class="{class}"/>"#
        ));
    }

    /// The headline of a panel, with what stands in the columns of figures.
    fn head(&mut self, title: &str, columns: [&str; 2]) {
        self.height += 30.0;
        let y = self.height;
        self.text(LEFT, y, "note", title);
        self.text(FIRST_COLUMN, y, "note end", columns[0]);
        self.text(SECOND_COLUMN, y, "note end", columns[1]);
        self.height += 8.0;
    }

    /// The lines behind a panel's rows, each with its label below.
    fn grid(&mut self, rows: usize, lines: &[(f64, String)]) {
        let top = self.height;
        // A few dozen rows.
        let bottom = top + ROW * rows as f64;
        for (x, label) in lines {
            self.line(*x, top, bottom + 4.0, "grid");
            self.text(*x, bottom + 18.0, "note middle", label);
        }
    }

    fn row(&mut self, kind: &str, end: f64, figures: [&str; 2]) {
        let (top, baseline) = (self.height + (ROW - BAR) / 2.0, self.height + ROW / 2.0 + 4.5);
        self.text(LEFT - 8.0, baseline, "end", kind);
        self.add(&format!(
            r#"<rect x="{LEFT:.1}" y="{top:.1}" width="{:.1}" height="{BAR:.1}" rx="2" class="{}"/>"#,
            end - LEFT,
            class(kind)
        ));
        self.text(FIRST_COLUMN, baseline, "end", figures[0]);
        self.text(SECOND_COLUMN, baseline, "note end", figures[1]);
        self.height += ROW;
    }

    fn times(&mut self, times: &[(&str, Summary)]) {
        self.head(
            "milliseconds, logarithmic: bar p50, mark p99; floors are grey",
            ["p50", "p99"],
        );
        let axis = Decades::around(times);
        let lines: Vec<_> = (axis.first..=axis.last)
            .map(|exponent| (axis.x(10_f64.powi(exponent)), decade(exponent)))
            .collect();
        self.grid(times.len(), &lines);
        for (kind, summary) in times {
            let (top, bottom) = (self.height + 2.0, self.height + ROW - 2.0);
            let figures = [summary.p50_ms, summary.p99_ms].map(|ms| format!("{ms:.2}"));
            self.row(kind, axis.x(summary.p50_ms), [&figures[0], &figures[1]]);
            self.line(axis.x(summary.p99_ms), top, bottom, "tail");
        }
        self.height += 28.0;
    }

    fn rates(&mut self, rates: &[(&str, Rate)]) {
        self.head("a second; floors are grey", ["rate", "n"]);
        let most = rates.iter().map(|(_, rate)| rate.per_second).fold(0.0, f64::max);
        let step = step(most);
        let steps = (most / step).ceil().max(1.0);
        let x = |rate: f64| LEFT + rate / (step * steps) * (RIGHT - LEFT);
        // At most ten.
        #[allow(clippy::cast_possible_truncation)]
        let lines: Vec<_> = (0..=steps as i32)
            .map(|line| step * f64::from(line))
            .map(|rate| (x(rate), rounded(rate)))
            .collect();
        self.grid(rates.len(), &lines);
        for (kind, Rate { per_second, n }) in rates {
            self.row(
                kind,
                x(*per_second),
                [&format!("{per_second:.2}"), &n.to_string()],
            );
        }
        self.height += 28.0;
    }

    fn finish(self) -> String {
        let Self { body, height } = self;
        let mut svg = String::new();
        // Writing to a String can't fail.
        let _ = write!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" role="img" aria-labelledby="title">
<title id="title">How long answers take, and how many there are in a second, beside their floors</title>
<style>{STYLE}</style>
<rect width="{WIDTH:.0}" height="{height:.0}" rx="6" class="page"/>
{body}</svg>
"#
        );
        svg
    }
}

/// Between two lines of a linear axis: 1, 2 or 5 of some decade, so that there are at most ten.
fn step(most: f64) -> f64 {
    let decade = 10_f64.powf((most.max(0.01) / 10.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|step| most / step <= 10.0)
        .unwrap_or(10.0 * decade)
}

/// Without the noise of floats.
fn rounded(rate: f64) -> String {
    ((rate * 1000.0).round() / 1000.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, samples};

    /// The numbers that elements of this class have in this attribute.
    fn numbers(svg: &str, class: &str, attribute: &str) -> Vec<f64> {
        let class = format!(r#"class="{class}""#);
        let attribute = format!(" {attribute}=\"");
        svg.lines()
            .filter(|line| line.contains(&class))
            .filter_map(|line| line.split(&attribute).nth(1)?.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn an_empty_report_has_no_picture() {
        assert_eq!(svg(&Report::default()), None);
    }

    #[test]
    fn every_kind_has_a_bar_even_one_that_the_order_does_not_know() {
        let report = report(
            &[("warm", 20), ("zzz", 7), ("floor.warm", 2)],
            &[("sustained", 9), ("pods", 10)],
        );
        let svg = svg(&report).expect("there are figures");
        for kind in ["warm", "zzz", "floor.warm", "sustained", "pods"] {
            assert!(svg.contains(&format!(">{kind}</text>")), "{kind} in {svg}");
        }
        assert_eq!(numbers(&svg, "bar", "width").len(), 3);
        assert_eq!(numbers(&svg, "floor", "width").len(), 2);
        assert!(
            svg.find(">warm<") < svg.find(">floor.warm<") && svg.find(">floor.warm<") < svg.find(">zzz<")
        );
    }

    #[test]
    fn ten_times_as_long_is_one_decade_further() {
        let mut report = Report::default();
        for (kind, ms) in [("local", 10), ("warm", 100), ("cold", 1000)] {
            report.times.insert(kind, samples([ms, 2 * ms]).summary());
        }
        let svg = svg(&report).expect("there are figures");
        let mut widths = numbers(&svg, "bar", "width");
        widths.sort_by(f64::total_cmp);
        assert!(
            (widths[2] - widths[1] - (widths[1] - widths[0])).abs() < 0.2,
            "{widths:?}"
        );
        assert!(svg.contains(">10 ms<") && svg.contains(">1 s<") && svg.contains(">10 s<"));
        let mut marks = numbers(&svg, "tail", "x1");
        marks.sort_by(f64::total_cmp);
        for (bar, mark) in widths.iter().zip(&marks) {
            assert!(*mark > LEFT + bar && *mark <= RIGHT, "{mark} behind {bar}");
        }
    }

    #[test]
    fn a_time_too_short_to_round_still_has_its_place() {
        let report = report(&[("floor.warm", 0)], &[]);
        let svg = svg(&report).expect("there are figures");
        let widths = numbers(&svg, "floor", "width");
        assert!(widths[0] > 0.0 && widths[0] <= RIGHT - LEFT, "{widths:?}");
    }

    #[test]
    fn rates_stand_on_an_axis_from_zero() {
        let report = report(&[], &[("sustained", 9), ("pods", 18)]);
        let svg = svg(&report).expect("there are figures");
        let (executions, pods) = (numbers(&svg, "bar", "width"), numbers(&svg, "floor", "width"));
        assert!(
            (pods[0] - 2.0 * executions[0]).abs() < 0.2,
            "{executions:?} {pods:?}"
        );
        assert!(svg.contains(">0<") && svg.contains(">1.8<"));
    }

    #[test]
    fn an_axis_has_few_lines_at_round_numbers() {
        for (most, expected) in [(0.4, 0.05), (1.0, 0.1), (3.7, 0.5), (14.2, 2.0), (99.0, 10.0)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
        assert!(step(0.0) > 0.0);
    }

    #[test]
    fn nothing_in_it_comes_from_elsewhere() {
        let svg = svg(&report(&[("warm", 20)], &[])).expect("there are figures");
        assert!(!svg.contains("url(") && !svg.contains("href"), "{svg}");
        assert_eq!(svg.matches("http").count(), 1, "the namespace of SVG only");
    }
}
