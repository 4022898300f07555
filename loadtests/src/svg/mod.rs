//! Drawings of numbers, as SVG: lines on axes, and bars.
//!
//! Must not choose numbers. White behind everything, so that dark pages show them too.

mod axis;

use std::fmt::Write as _;

use self::axis::Axis;

/// One after the other for lines and bars; told apart by people who do not see all colours (Okabe and Ito), and two more.
const COLOURS: [&str; 10] =
    ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777", "#884400", "#5500aa"];

const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";

/// Sizes in pixels.
const PANEL_WIDTH: f64 = 400.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 30.0;
const GAP: f64 = 40.0;
const BELOW: f64 = 45.0;
const LEGEND_LINE: f64 = 16.0;
const LEGEND_COLUMN: f64 = 225.0;
const BAR: f64 = 22.0;
const NAMES: f64 = 250.0;
const VALUES: f64 = 110.0;

/// Points in order, joined.
#[derive(Debug, Clone)]
pub struct Line {
    /// For the legend. Lines of one name have one colour in all panels.
    pub name: String,
    /// Across and up.
    pub points: Vec<(f64, f64)>,
}

/// Lines on axes.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above.
    pub title: String,
    /// What is counted across.
    pub across: String,
    /// What is counted up.
    pub up: String,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// To its left.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The lowest and highest that were seen.
    pub spread: (f64, f64),
    /// To its right.
    pub text: String,
}

/// Panels side by side over one legend.
pub fn lines(panels: &[Panel]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    let width = panels.len() as f64 * (LEFT + PANEL_WIDTH + GAP);
    let columns = ((width - LEFT) / LEGEND_COLUMN).floor().max(1.0) as usize;
    let legend_top = TOP + PANEL_HEIGHT + BELOW + LEGEND_LINE;
    let height = legend_top + names.len().div_ceil(columns) as f64 * LEGEND_LINE;
    let mut text = String::new();
    for (at, panel) in panels.iter().enumerate() {
        draw_panel(&mut text, panel, at as f64 * (LEFT + PANEL_WIDTH + GAP) + LEFT, &names);
    }
    for (at, name) in names.iter().enumerate() {
        let x = LEFT + (at % columns) as f64 * LEGEND_COLUMN;
        let y = legend_top + (at / columns) as f64 * LEGEND_LINE;
        let colour = COLOURS[at % COLOURS.len()];
        let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>", y - 4.0);
        label(&mut text, x + 10.0, y, "start", name);
    }
    framed(width, height, &text)
}

fn draw_panel(text: &mut String, panel: &Panel, left: f64, names: &[&str]) {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let across = Axis::around(points().map(|point| point.0), left, left + PANEL_WIDTH);
    let up = Axis::around(points().map(|point| point.1), TOP + PANEL_HEIGHT, TOP);
    let bottom = TOP + PANEL_HEIGHT;
    label(text, left + PANEL_WIDTH / 2.0, TOP - 12.0, "middle", &panel.title);
    label(text, left + PANEL_WIDTH / 2.0, bottom + 36.0, "middle", &panel.across);
    let _ = writeln!(
        text,
        "<text {FONT} text-anchor=\"middle\" transform=\"translate({:.1} {:.1}) rotate(-90)\">{}</text>",
        left - 44.0,
        TOP + PANEL_HEIGHT / 2.0,
        escaped(&panel.up)
    );
    for tick in across.ticks() {
        let x = across.at(tick);
        rule(text, (x, TOP), (x, bottom), "#dddddd");
        label(text, x, bottom + 18.0, "middle", &across.text(tick));
    }
    for tick in up.ticks() {
        let y = up.at(tick);
        rule(text, (left, y), (left + PANEL_WIDTH, y), "#dddddd");
        label(text, left - 6.0, y + 4.0, "end", &up.text(tick));
    }
    for line in &panel.lines {
        let at = names.iter().position(|name| *name == line.name).unwrap_or(0);
        let colour = COLOURS[at % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (across.at(*x), up.at(*y))).collect();
        let joined = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let _ =
            writeln!(text, "<polyline points=\"{joined}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        for (x, y) in places {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// Bars under one another, from nothing to the right, with the spread as a thin line.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value.max(bar.spread.1)).fold(0.0, f64::max);
    let length = |value: f64| if most > 0.0 { value / most * PANEL_WIDTH } else { 0.0 };
    let mut text = String::new();
    label(&mut text, NAMES, TOP - 12.0, "start", title);
    for (at, bar) in bars.iter().enumerate() {
        let top = TOP + at as f64 * BAR;
        let middle = top + BAR / 2.0 - 2.0;
        label(&mut text, NAMES - 8.0, middle + 4.0, "end", &bar.name);
        let _ = writeln!(
            text,
            "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#56b4e9\"/>",
            top,
            length(bar.value),
            BAR - 4.0
        );
        let (lowest, highest) = (NAMES + length(bar.spread.0), NAMES + length(bar.spread.1));
        rule(&mut text, (lowest, middle), (highest, middle), "#000000");
        label(&mut text, NAMES + PANEL_WIDTH + 10.0, middle + 4.0, "start", &bar.text);
    }
    framed(NAMES + PANEL_WIDTH + VALUES, TOP + bars.len() as f64 * BAR + 10.0, &text)
}

fn framed(width: f64, height: f64, inside: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{inside}</svg>\n"
    )
}

fn rule(text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(text, "<text {FONT} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        let line = Line { name: "a < b & c".into(), points };
        Panel { title: "title".into(), across: "bytes".into(), up: "score".into(), lines: vec![line] }
    }

    #[test]
    fn words_cannot_break_out() {
        let svg = lines(&[panel(vec![(1.0, 2.0), (3.0, 4.0)])]);
        assert!(svg.contains(">a &lt; b &amp; c</text>") && !svg.contains("a < b"));
    }

    #[test]
    fn all_points_are_drawn_inside_and_higher_is_further_up() {
        let svg = lines(&[panel(vec![(1000.0, 20.0), (5000.0, 90.0)])]);
        let joined = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        let places: Vec<Vec<f64>> =
            joined.split(' ').map(|place| place.split(',').map(|n| n.parse().expect("a number")).collect()).collect();
        assert!(places[0][0] < places[1][0] && places[0][1] > places[1][1]);
        assert!(places.iter().all(|place| (LEFT..=LEFT + PANEL_WIDTH).contains(&place[0])));
        assert!(places.iter().all(|place| (TOP..=TOP + PANEL_HEIGHT).contains(&place[1])));
    }

    #[test]
    fn one_name_is_once_in_the_legend_of_two_panels() {
        let both = [panel(vec![(1.0, 1.0)]), panel(vec![(2.0, 2.0)])];
        assert_eq!(lines(&both).matches("a &lt; b").count(), 1);
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_nothing_has_no_length() {
        let bar = |value: f64| Bar { name: "x".into(), value, spread: (value, value), text: String::new() };
        let svg = bars("title", &[bar(10.0), bar(5.0), bar(0.0)]);
        for width in ["width=\"400.0\"", "width=\"200.0\"", "width=\"0.0\""] {
            assert!(svg.contains(width), "{width} is missing in {svg}");
        }
        assert!(!bars("none", &[bar(0.0)]).contains("NaN"));
    }
}
