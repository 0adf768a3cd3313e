//! A quantity over a run: its smoothed course, the range it had, and points of another measurement.

use super::axis::{TimeAxis, ValueAxis};
use super::canvas::{Drawn, plot};
use super::palette::Ink;

/// Fewest points that are smoothed; fewer are drawn as they are.
const SMOOTHED_FROM: usize = 60;

/// Some steps' mean and range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) step: f64,
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// How a vertical axis is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// What the values need, without the first steps' peak.
    Robust,
    /// From zero.
    FromZero,
    /// Logarithmic where the values span more than a decade and a half, else as needed.
    Spanning,
}

/// A chart of one quantity.
#[derive(Clone, Debug)]
pub(crate) struct LineChart<'a> {
    /// The training curve, in the order of steps.
    pub(crate) points: Vec<Point>,
    /// Measurements at single steps, with whether each is the best.
    pub(crate) measured: Vec<(f64, f64, bool)>,
    /// Steps to mark.
    pub(crate) marks: &'a [(f64, Ink)],
    /// The vertical axis.
    pub(crate) range: Range,
    /// Whether to smooth.
    pub(crate) smooth: bool,
}

/// A drawn chart and what its caption may tell.
#[derive(Clone, Debug)]
pub(crate) struct LineDrawing {
    pub(crate) svg: String,
    /// The course's last value.
    pub(crate) last: Option<f64>,
    /// The highest value, if it lies beyond the axis.
    pub(crate) beyond: Option<f64>,
    /// Whether the course is smoothed.
    pub(crate) smoothed: bool,
    /// Whether the axis is logarithmic.
    pub(crate) logarithmic: bool,
}

impl LineChart<'_> {
    /// Draws it, if there is anything to draw.
    pub(crate) fn draw(&self, time: &TimeAxis) -> Drawn<Option<LineDrawing>> {
        let Some(axis) = self.axis() else {
            return Ok(None);
        };
        let smoothed = self.smooth && self.points.len() >= SMOOTHED_FROM;
        let radius = if smoothed { self.points.len() / 50 } else { 0 };
        let course = smooth(&self.points, radius);
        let at = |(step, value): (f64, f64)| (step, axis.coordinate(value));
        let svg = plot(time, &axis, |canvas| {
            let high = self.points.iter().map(|p| at((p.step, p.max)));
            let low = self.points.iter().rev().map(|p| at((p.step, p.min)));
            if self.points.len() > 1 {
                canvas.area(high.chain(low).collect(), Ink::Train, 0.18)?;
            }
            if smoothed {
                let raw: Vec<_> = self.points.iter().map(|p| (p.step, p.mean)).collect();
                canvas.line(entering(&raw, &axis).map(at), Ink::Train, 0.75, 0.3)?;
            }
            if !course.is_empty() {
                canvas.line(entering(&course, &axis).map(at), Ink::Train, 1.75, 1.0)?;
            }
            if self.measured.len() > 1 {
                let points = self.measured.iter().map(|(s, v, _)| at((*s, *v)));
                canvas.line(points, Ink::Validation, 1.25, 0.8)?;
            }
            // Dots that would run into one another are left to the line.
            let every = self.measured.len() / 60 + 1;
            for (index, (step, value, best)) in self.measured.iter().enumerate() {
                if *best || index.is_multiple_of(every) {
                    let radius = if *best { 4.0 } else { 2.25 };
                    canvas.dot(at((*step, *value)), Ink::Validation, radius)?;
                }
            }
            self.marks
                .iter()
                .try_for_each(|(step, ink)| canvas.mark(*step, *ink))
        })?;
        let highest = self.points.iter().map(|p| p.max).reduce(f64::max);
        Ok(Some(LineDrawing {
            svg,
            last: course.last().map(|(_, value)| *value),
            beyond: highest.filter(|high| axis.coordinate(*high) == axis.high),
            smoothed,
            logarithmic: axis.logarithmic,
        }))
    }

    fn axis(&self) -> Option<ValueAxis> {
        let measured = self.measured.iter().map(|(_, value, _)| *value);
        let lows = self.points.iter().map(|p| p.min).chain(measured.clone());
        let highs = self.points.iter().map(|p| p.max).chain(measured.clone());
        let (low, high) = (lows.reduce(f64::min)?, highs.reduce(f64::max)?);
        Some(match self.range {
            Range::Spanning if low > 0.0 && high / low > 30.0 => ValueAxis::logarithmic(low, high),
            Range::FromZero => ValueAxis::linear(low.min(0.0), high),
            Range::Robust if self.points.len() >= SMOOTHED_FROM => {
                // A loss starts several times as high as it ends, and spikes leave the scale: an axis for these would
                // press what matters into a line.
                let usual = quantile(self.points.iter().map(|p| p.mean), 0.97);
                let usual = measured.reduce(f64::max).map_or(usual, |m| m.max(usual));
                ValueAxis::linear(low, high.min(usual + (usual - low) * 0.15))
            }
            _ => ValueAxis::linear(low, high),
        })
    }
}

/// A curve from where it comes in over the top of the axis, at whose edge it would otherwise run along.
fn entering(curve: &[(f64, f64)], axis: &ValueAxis) -> impl Iterator<Item = (f64, f64)> {
    let beyond = |(_, value): &&(f64, f64)| axis.coordinate(*value) >= axis.high;
    let leading = curve.iter().take_while(beyond).count();
    curve.iter().skip(leading.saturating_sub(1)).copied()
}

/// The value that a share of all lies below.
fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values
        .get(index.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// Means weighted by a triangle of `radius` points to either side. At the start, where a loss falls steeply, the
/// triangle shrinks so as not to lift it.
fn smooth(points: &[Point], radius: usize) -> Vec<(f64, f64)> {
    let smoothed = (0..points.len()).map(|center| {
        let reach = radius.min(center);
        let end = (center + reach + 1).min(points.len());
        let (mut sum, mut weights) = (0.0, 0.0);
        for (index, point) in points.iter().enumerate().take(end).skip(center - reach) {
            let weight = (reach + 1 - center.abs_diff(index)) as f64;
            sum += weight * point.mean;
            weights += weight;
        }
        (points[center].step, sum / weights)
    });
    smoothed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: impl IntoIterator<Item = f64>) -> Vec<Point> {
        let point = |(step, mean): (usize, f64)| Point {
            step: step as f64,
            mean,
            min: mean,
            max: mean,
        };
        values.into_iter().enumerate().map(point).collect()
    }

    fn chart(points: Vec<Point>, range: Range) -> LineChart<'static> {
        LineChart {
            points,
            measured: Vec::new(),
            marks: &[],
            range,
            smooth: true,
        }
    }

    #[test]
    fn smoothing_keeps_constants_and_lines_and_damps_noise() {
        let noisy = points((0..200).map(|i| if i % 2 == 0 { 1.0 } else { 3.0 }));
        for (_, value) in &smooth(&noisy, 10)[10..190] {
            assert!((value - 2.0).abs() < 0.1, "{value}");
        }
        let line = points((0..200).map(f64::from));
        for (step, value) in &smooth(&line, 10)[..190] {
            assert!((step - value).abs() < 1e-9, "{step} {value}");
        }
        assert_eq!(smooth(&noisy, 0)[1], (1.0, 3.0));
    }

    #[test]
    fn the_first_peak_does_not_set_the_axis() {
        let falling = points((0..500).map(|i| if i < 5 { 10.0 } else { 2.0 }));
        let robust = chart(falling.clone(), Range::Robust)
            .axis()
            .expect("an axis");
        assert!(robust.high < 3.0, "{robust:?}");
        assert_eq!(robust.coordinate(10.0), robust.high);
        let curve: Vec<_> = falling.iter().map(|p| (p.step, p.mean)).collect();
        assert_eq!(entering(&curve, &robust).next(), Some((4.0, 10.0)));
        let spanning = chart(falling, Range::Spanning).axis().expect("an axis");
        assert!(spanning.high > 10.0 && !spanning.logarithmic);
    }

    #[test]
    fn only_positive_values_that_span_get_a_logarithmic_axis() {
        let logarithmic = |values: &[f64]| {
            let points = points(values.iter().copied());
            chart(points, Range::Spanning)
                .axis()
                .expect("an axis")
                .logarithmic
        };
        assert!(logarithmic(&[0.1, 100.0]));
        assert!(!logarithmic(&[10.0, 100.0]));
        assert!(!logarithmic(&[0.0, 100.0]));
    }

    #[test]
    fn nothing_gives_no_chart_and_one_point_a_dot() {
        let time = TimeAxis {
            low: 0.0,
            high: 2.0,
            ticks: Vec::new(),
            tokens: Vec::new(),
            times: Vec::new(),
        };
        let draw = |values: &[f64]| {
            let chart = chart(points(values.iter().copied()), Range::Robust);
            chart.draw(&time).expect("drawn")
        };
        assert!(draw(&[]).is_none());
        let one = draw(&[3.0]).expect("a chart");
        assert!(one.svg.contains("<circle") && one.last == Some(3.0));
    }
}
