//! The page's charts: one for each quantity that the run has.

use serde::Serialize;

use crate::chart::lines::LineDrawing;
use crate::chart::{Ink, LineChart, Point, Range, TimeAxis, shares};
use crate::history::{Bucket, Counts, History, Quantity, ValidationRow};
use crate::number::{grouped, significant};

/// A chart with its caption.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    title: &'static str,
    unit: String,
    /// The last value, if the chart has one.
    value: Option<String>,
    svg: String,
    legend: Vec<Key>,
    note: Option<String>,
}

/// An entry of a legend.
#[derive(Debug, Serialize)]
struct Key {
    ink: &'static str,
    shape: &'static str,
    label: String,
}

impl Key {
    fn new(ink: Ink, shape: &'static str, label: impl Into<String>) -> Self {
        Self {
            ink: ink.name(),
            shape,
            label: label.into(),
        }
    }
}

/// What a chart of a quantity shows.
struct Course {
    title: &'static str,
    unit: &'static str,
    quantity: Quantity,
    range: Range,
    smooth: bool,
    /// Whether skipped steps and spikes are marked.
    marked: bool,
    /// The same quantity of a validation.
    validation: Option<fn(&ValidationRow) -> f64>,
}

const COURSES: [Course; 8] = [
    Course {
        validation: Some(|row| row.summary.loss),
        ..Course::smoothed("Loss", "nats per token", Quantity::Loss, Range::Robust)
    },
    Course {
        validation: Some(|row| row.summary.bits_per_byte),
        ..Course::smoothed(
            "Bits per byte",
            "bits",
            Quantity::BitsPerByte,
            Range::Robust,
        )
    },
    Course {
        smooth: false,
        marked: false,
        ..Course::smoothed("Learning rate", "", Quantity::LearningRate, Range::FromZero)
    },
    Course::smoothed(
        "Gradient norm",
        "before clipping",
        Quantity::GradientNorm,
        Range::Spanning,
    ),
    Course {
        marked: false,
        ..Course::smoothed(
            "Speed",
            "tokens per second",
            Quantity::TokensPerSecond,
            Range::FromZero,
        )
    },
    Course {
        marked: false,
        ..Course::smoothed(
            "Router loss",
            "nats per row",
            Quantity::RouterLoss,
            Range::Robust,
        )
    },
    Course {
        marked: false,
        ..Course::smoothed(
            "Row perplexity",
            "median, sets the pseudo-classes",
            Quantity::RowPerplexity,
            Range::Spanning,
        )
    },
    Course {
        smooth: false,
        ..Course::smoothed("Loss scale", "factor", Quantity::LossScale, Range::Spanning)
    },
];

impl Course {
    const fn smoothed(
        title: &'static str,
        unit: &'static str,
        quantity: Quantity,
        range: Range,
    ) -> Self {
        Self {
            title,
            unit,
            quantity,
            range,
            smooth: true,
            marked: true,
            validation: None,
        }
    }

    fn figure(
        &self,
        history: &History,
        time: &TimeAxis,
        all_marks: &[(f64, Ink)],
    ) -> Result<Option<Figure>, String> {
        let marks = if self.marked { all_marks } else { &[] };
        let rows = history.validations.rows().iter();
        let measured: Vec<_> = rows
            .filter_map(|row| Some((row.step as f64, self.validation?(row), row.best)))
            .filter(|(_, value, _)| value.is_finite())
            .collect();
        let chart = LineChart {
            points: points(history, self.quantity),
            measured,
            marks,
            range: self.range,
            smooth: self.smooth,
        };
        let Some(drawing) = chart.draw(time)? else {
            return Ok(None);
        };
        Ok(Some(Figure {
            title: self.title,
            unit: unit(self.unit, drawing.logarithmic),
            value: drawing.last.map(|value| significant(value, 4)),
            legend: legend(&chart, &drawing, history.bucket_steps()),
            note: drawing
                .beyond
                .map(|high| format!("Highest value, beyond the axis: {}", significant(high, 3))),
            svg: drawing.svg,
        }))
    }
}

fn unit(unit: &str, logarithmic: bool) -> String {
    match (unit, logarithmic) {
        (unit, false) => unit.into(),
        ("", true) => "logarithmic".into(),
        (unit, true) => format!("{unit}, logarithmic"),
    }
}

fn points(history: &History, quantity: Quantity) -> Vec<Point> {
    let point = |bucket: &Bucket| {
        let stat = bucket.get(quantity);
        Some(Point {
            step: bucket.middle(),
            mean: stat.mean()?,
            min: stat.min,
            max: stat.max,
        })
    };
    history.buckets().filter_map(point).collect()
}

fn legend(chart: &LineChart<'_>, drawing: &LineDrawing, bucket_steps: u64) -> Vec<Key> {
    let mut keys = Vec::new();
    if !chart.points.is_empty() && (drawing.smoothed || !chart.measured.is_empty()) {
        let label = if drawing.smoothed {
            "training, smoothed"
        } else {
            "training"
        };
        keys.push(Key::new(Ink::Train, "line", label));
    }
    if bucket_steps > 1 && chart.smooth && !chart.points.is_empty() {
        keys.push(Key::new(
            Ink::Train,
            "band",
            format!("range of {} steps", grouped(bucket_steps)),
        ));
    } else if drawing.smoothed {
        keys.push(Key::new(Ink::Train, "band", "each step"));
    }
    if !chart.measured.is_empty() {
        keys.push(Key::new(Ink::Validation, "dot", "validation (large: best)"));
    }
    for (ink, label) in [(Ink::Skipped, "skipped step"), (Ink::Spike, "spike")] {
        if chart.marks.iter().any(|(_, mark)| *mark == ink) {
            keys.push(Key::new(ink, "mark", label));
        }
    }
    keys
}

/// The charts of a run, in the order of the page.
pub(super) fn figures(history: &History) -> Result<Vec<Figure>, String> {
    let Some(time) = TimeAxis::of(history) else {
        return Ok(Vec::new());
    };
    // A step that is both was skipped: that is the graver news.
    let marks: Vec<_> = history
        .buckets()
        .filter_map(|bucket| match (bucket.skipped, bucket.spike) {
            (true, _) => Some((bucket.middle(), Ink::Skipped)),
            (_, true) => Some((bucket.middle(), Ink::Spike)),
            _ => None,
        })
        .collect();
    let mut figures = Vec::new();
    let (general, of_router) = COURSES.split_at(5);
    for course in general {
        figures.extend(course.figure(history, &time, &marks)?);
    }
    figures.extend(depths(history, &time)?);
    figures.extend(classes(history, &time)?);
    for course in of_router {
        figures.extend(course.figure(history, &time, &marks)?);
    }
    Ok(figures)
}

/// Depths taken: shares where they were counted, else the mean where it varies.
fn depths(history: &History, time: &TimeAxis) -> Result<Option<Figure>, String> {
    let counts: Vec<_> = history.buckets().map(|b| (b.middle(), b.depths)).collect();
    let occurring = shares::occurring(counts.iter().map(|(_, counts)| counts));
    if let Some(svg) = shares::draw(time, &counts, &occurring)? {
        return Ok(Some(Figure {
            title: "Depth",
            unit: "shares of the depths taken".into(),
            value: None,
            svg,
            legend: keys(&occurring, |depth| match depth {
                1 => "1 step".into(),
                _ => format!("{depth} steps"),
            }),
            note: None,
        }));
    }
    let points = points(history, Quantity::Depth);
    if points.windows(2).all(|pair| pair[0].mean == pair[1].mean) {
        return Ok(None);
    }
    let course = Course {
        marked: false,
        ..Course::smoothed("Mean depth", "steps", Quantity::Depth, Range::Spanning)
    };
    course.figure(history, time, &[])
}

/// What the router chose and what it should have: the curriculum that training makes for itself.
fn classes(history: &History, time: &TimeAxis) -> Result<Vec<Figure>, String> {
    type Select = fn(&Bucket) -> Counts;
    const CHARTS: [(&str, &str, Select); 2] = [
        (
            "Router classes",
            "shares of rows by the class chosen",
            |b| b.classes,
        ),
        (
            "Pseudo-classes",
            "shares of rows, by perplexity: the curriculum",
            |b| b.targets,
        ),
    ];
    // One set of classes for both, so that a colour means the same.
    let all: Vec<_> = history
        .buckets()
        .flat_map(|b| [b.classes, b.targets])
        .collect();
    let occurring = shares::occurring(all.iter());
    let mut figures = Vec::new();
    for (title, unit, select) in CHARTS {
        let counts: Vec<_> = history.buckets().map(|b| (b.middle(), select(b))).collect();
        let svg = shares::draw(time, &counts, &occurring)?;
        figures.extend(svg.map(|svg| Figure {
            title,
            unit: unit.into(),
            value: None,
            svg,
            legend: keys(&occurring, |class| format!("class {class}")),
            note: None,
        }));
    }
    Ok(figures)
}

fn keys(occurring: &[usize], label: impl Fn(usize) -> String) -> Vec<Key> {
    let last = crate::history::MAX_CLASSES - 1;
    let key = |(index, class): (usize, &usize)| {
        let label = label(*class) + if *class == last { " or more" } else { "" };
        Key::new(Ink::ramp(index, occurring.len()), "box", label)
    };
    occurring.iter().enumerate().map(key).collect()
}
