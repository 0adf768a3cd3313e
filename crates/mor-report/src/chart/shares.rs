//! Shares of depths or classes over a run, stacked.

use super::axis::{TimeAxis, ValueAxis};
use super::canvas::{Drawn, plot};
use super::palette::Ink;
use crate::history::Counts;

/// Most points that the boundaries have.
const MAX_POINTS: usize = 120;

/// Which depths or classes occur anywhere, in order.
pub(crate) fn occurring<'a>(counts: impl Iterator<Item = &'a Counts>) -> Vec<usize> {
    let mut all = Counts::default();
    counts.for_each(|counts| all.add(&counts.0));
    let occurring = all.0.iter().enumerate().filter(|(_, count)| **count > 0);
    occurring.map(|(class, _)| class).collect()
}

/// Draws the shares of `classes`, the first at the bottom, over counts at steps. Nothing without any count.
pub(crate) fn draw(
    time: &TimeAxis,
    counts: &[(f64, Counts)],
    classes: &[usize],
) -> Drawn<Option<String>> {
    let mut counts = gathered(counts);
    match counts[..] {
        [] => return Ok(None),
        // One point has no width: it fills the plot.
        [(_, only)] => counts = vec![(time.low, only), (time.high, only)],
        _ => {}
    }
    // The boundaries between classes from bottom to top, each over all steps.
    let mut boundary: Vec<(f64, f64)> = counts.iter().map(|(step, _)| (*step, 0.0)).collect();
    let svg = plot(time, &ValueAxis::shares(), |canvas| {
        for (index, class) in classes.iter().enumerate() {
            let below = boundary.clone();
            for ((_, top), (_, counts)) in boundary.iter_mut().zip(&counts) {
                let share = counts.0[*class] as f64 / counts.total() as f64;
                *top = (*top + share).min(1.0);
            }
            let outline = below.iter().chain(boundary.iter().rev()).copied();
            canvas.area(outline.collect(), Ink::ramp(index, classes.len()), 1.0)?;
            if index > 0 {
                canvas.line(below, Ink::Surface, 1.0, 1.0)?;
            }
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// Counts of neighbours together: shares of few rows jump from step to step.
fn gathered(counts: &[(f64, Counts)]) -> Vec<(f64, Counts)> {
    let counted: Vec<_> = counts.iter().filter(|(_, c)| c.total() > 0).collect();
    let groups = counted.len().min(MAX_POINTS);
    let gather = |group: usize| {
        // Of equal size, but for one: a small last group would leap.
        let start = group * counted.len() / groups;
        let group = &counted[start..(group + 1) * counted.len() / groups];
        let mut sum = Counts::default();
        group.iter().for_each(|(_, counts)| sum.add(&counts.0));
        let steps: f64 = group.iter().map(|(step, _)| step).sum();
        (steps / group.len() as f64, sum)
    };
    (0..groups).map(gather).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: [u64; 3]) -> Counts {
        let mut counts = Counts::default();
        counts.add(&values);
        counts
    }

    #[test]
    fn each_occurring_class_gets_an_area() {
        let time = TimeAxis {
            low: 0.0,
            high: 10.0,
            ticks: Vec::new(),
            tokens: Vec::new(),
            times: Vec::new(),
        };
        let history = [
            (1.0, counts([1, 0, 1])),
            (5.0, counts([0; 3])),
            (9.0, counts([0, 0, 4])),
        ];
        let classes = occurring(history.iter().map(|(_, c)| c));
        assert_eq!(classes, [0, 2]);
        let svg = draw(&time, &history, &classes)
            .expect("drawn")
            .expect("a chart");
        assert_eq!(svg.matches("<polygon").count(), 2);
        assert_eq!(draw(&time, &[(5.0, counts([0; 3]))], &classes), Ok(None));
    }

    #[test]
    fn neighbours_are_counted_together() {
        let history: Vec<_> = (0..1000)
            .map(|step| (f64::from(step), counts([1, 2, 0])))
            .collect();
        let gathered = gathered(&history);
        assert_eq!(gathered.len(), MAX_POINTS);
        let total: u64 = gathered.iter().map(|(_, counts)| counts.total()).sum();
        assert_eq!(total, 3000);
        assert!(gathered.is_sorted_by(|a, b| a.0 < b.0));
    }
}
