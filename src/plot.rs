//! Lines over time as a picture: SVG, with its words as text.

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, LineSeries, PathElement, RGBColor, SVGBackend, Text,
    WHITE,
};
use std::error::Error;
use std::ops::Range;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 540);
/// Of what is right of the lines: which is which.
const LEGEND_WIDTH: u32 = 210;
/// Characters of a name in the legend.
const LEGEND_CHARS: usize = 26;
/// Numbers above zero whose largest is so many times the smallest are drawn on a logarithmic scale.
const LOGARITHMIC_FROM: f64 = 1000.0;
/// Colours that can be told apart by everyone: Okabe and Ito, *Color universal design*, 2008, without the yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A line of a picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What the legend says.
    pub(crate) name: String,
    /// Seconds, and the number then. What is infinite or not a number is not drawn.
    pub(crate) points: Vec<(f64, f64)>,
}

/// There is nothing to draw, or it cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlotError {
    /// No line has a point that can be drawn.
    #[error("there are no numbers to draw: --plot-output and --plot-columns say which")]
    Empty,
    /// What the library says.
    #[error("cannot draw: {0}")]
    Drawing(String),
}

/// How numbers become heights.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    /// By their decimal logarithm.
    Logarithmic,
}

impl Line {
    /// Drops every second point.
    pub(crate) fn thin(&mut self) {
        let mut keep = false;
        self.points.retain(|_| {
            keep = !keep;
            keep
        });
    }
}

impl Scale {
    /// Fit for these numbers.
    fn of(lines: &[Line]) -> Self {
        let numbers = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).filter(|y| y.is_finite());
        let (least, most) = (numbers().fold(f64::INFINITY, f64::min), numbers().fold(0.0, f64::max));
        if least > 0.0 && most / least > LOGARITHMIC_FROM { Self::Logarithmic } else { Self::Linear }
    }

    fn height(self, number: f64) -> f64 {
        match self {
            Self::Linear => number,
            Self::Logarithmic => number.log10(),
        }
    }

    fn label(self, height: f64) -> String {
        match self {
            Self::Logarithmic => format!("{:.0e}", 10f64.powf(height)),
            Self::Linear => label(height),
        }
    }
}

/// A number at an axis.
fn label(number: f64) -> String {
    match number.abs() {
        0.0 => "0".into(),
        1e-3..1e6 => format!("{}", (number * 1e6).round() / 1e6),
        _ => format!("{number:.1e}"),
    }
}

/// A picture of lines over seconds, with axes and a legend.
///
/// # Errors
/// When no line has a point.
pub(crate) fn svg(title: &str, lines: &[Line]) -> Result<String, PlotError> {
    let scale = Scale::of(lines);
    let lines: Vec<(&str, Vec<(f64, f64)>)> =
        lines.iter().map(|line| (line.name.as_str(), heights(line, scale))).collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let across = range(points().map(|(x, _)| *x), 0.0).ok_or(PlotError::Empty)?;
    let up = range(points().map(|(_, y)| *y), 0.05).ok_or(PlotError::Empty)?;
    let mut text = String::new();
    draw(&mut text, title, scale, &lines, (across, up)).map_err(|error| PlotError::Drawing(error.to_string()))?;
    Ok(text)
}

/// The points of a line that can be drawn.
fn heights(line: &Line, scale: Scale) -> Vec<(f64, f64)> {
    let heights = line.points.iter().map(|(x, y)| (*x, scale.height(*y)));
    heights.filter(|(_, y)| y.is_finite()).collect()
}

/// From the least to the greatest, with a margin; never empty.
fn range(numbers: impl Iterator<Item = f64>, margin: f64) -> Option<Range<f64>> {
    let (least, most) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), n| (a.min(n), b.max(n)));
    if least > most {
        return None;
    }
    let margin = if most > least { (most - least) * margin } else { least.abs().max(1.0) * 0.5 };
    Some(least - margin..most + margin)
}

fn draw(
    text: &mut String,
    title: &str,
    scale: Scale,
    lines: &[(&str, Vec<(f64, f64)>)],
    (across, up): (Range<f64>, Range<f64>),
) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (picture, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let mut chart = ChartBuilder::on(&picture)
        .caption(title, ("sans-serif", 22))
        .margin(20)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(across, up)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("seconds")
        .x_label_formatter(&|seconds| label(*seconds))
        .y_label_formatter(&|height| scale.label(*height))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (number, (_, points)) in lines.iter().enumerate() {
        chart.draw_series(LineSeries::new(points.iter().copied(), colour(number).stroke_width(2)))?;
    }
    draw_legend(&legend, lines.iter().map(|(name, _)| *name))?;
    area.present()?;
    Ok(())
}

/// The names of the lines, below each other, with a piece of each.
fn draw_legend<'a>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Box<dyn Error>> {
    for (number, name) in names.enumerate() {
        let y = 60 + 24 * number as i32;
        area.draw(&PathElement::new([(0, y), (20, y)], colour(number).stroke_width(2)))?;
        let mut shown: String = name.chars().take(LEGEND_CHARS).collect();
        if shown.len() < name.len() {
            shown.push('\u{2026}');
        }
        area.draw(&Text::new(shown, (28, y - 6), ("sans-serif", 14)))?;
    }
    Ok(())
}

fn colour(line: usize) -> RGBColor {
    COLOURS[line % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, numbers: &[f64]) -> Line {
        Line { name: name.into(), points: numbers.iter().enumerate().map(|(i, y)| (i as f64, *y)).collect() }
    }

    #[test]
    fn words_are_text() {
        let lines = [line("small & steady", &[3.0, 2.0, 1.0]), line("large", &[3.0, 1e12, 1e26, f64::INFINITY])];
        let picture = svg("errors", &lines).unwrap();
        let texts: Vec<&str> = picture.lines().filter(|line| !line.starts_with('<')).map(str::trim).collect();
        for text in ["errors", "seconds", "small &amp; steady", "large", "1e20"] {
            assert!(texts.contains(&text), "{text} is not in {texts:?}");
        }
        assert!(picture.matches("<polyline").count() >= 2);
    }

    #[test]
    fn one_scale_or_the_other() {
        assert_eq!(Scale::of(&[line("a", &[1.0, 999.0])]), Scale::Linear);
        assert_eq!(Scale::of(&[line("a", &[1.0, f64::NAN]), line("b", &[1e4])]), Scale::Logarithmic);
        assert_eq!(Scale::of(&[line("a", &[0.0, 1e9])]), Scale::Linear);
        assert_eq!([0.25, 1e9, -3.0, 0.0].map(label), ["0.25", "1.0e9", "-3", "0"]);
        assert_eq!(Scale::Logarithmic.label(3.0), "1e3");
    }

    #[test]
    fn one_point_is_a_picture_and_none_is_not() {
        assert!(svg("one", &[line("a", &[5.0])]).is_ok());
        assert!(matches!(svg("none", &[line("a", &[f64::NAN])]), Err(PlotError::Empty)));
    }
}
