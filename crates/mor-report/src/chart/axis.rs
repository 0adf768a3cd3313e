//! Where axes begin, end and have their ticks.

use crate::history::History;
use crate::number;

/// A place on an axis with its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// The horizontal axis of a run: steps, with tokens and time below them.
#[derive(Clone, Debug)]
pub(crate) struct TimeAxis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<Tick>,
    /// Tokens learned from at the ticks, where there was training by then.
    pub(crate) tokens: Vec<Tick>,
    /// Training time at the ticks.
    pub(crate) times: Vec<Tick>,
}

impl TimeAxis {
    /// The axis of a run, if it has any step or validation.
    pub(crate) fn of(history: &History) -> Option<Self> {
        let (first, last) = history.extent()?;
        let (mut low, mut high) = (first as f64, last as f64);
        if low <= high * 0.02 {
            low = 0.0;
        }
        if low == high {
            (low, high) = ((low - 1.0).max(0.0), high + 1.0);
        }
        let spacing = nice_spacing(low, high, 6).max(1.0);
        let places: Vec<f64> = places(low, high, spacing).collect();
        let ticks = places.iter().map(|&at| Tick {
            at,
            label: if high < 1e5 {
                number::grouped(at as i64)
            } else {
                number::compact(at)
            },
        });
        let (mut tokens, mut times) = (Vec::new(), Vec::new());
        for &at in places.iter().filter(|at| **at > 0.0) {
            let Some((seen, seconds)) = history.position(at) else {
                continue;
            };
            for (row, label) in [
                (&mut tokens, number::compact(seen)),
                (&mut times, number::duration(seconds)),
            ] {
                row.push(Tick { at, label });
            }
        }
        Some(Self {
            low,
            high,
            ticks: ticks.collect(),
            tokens,
            times,
        })
    }

    /// The rows of labels from top to bottom.
    pub(crate) fn rows(&self) -> [(&'static str, &[Tick]); 3] {
        [
            ("step", &self.ticks),
            ("tokens", &self.tokens),
            ("time", &self.times),
        ]
    }
}

/// A vertical axis. A logarithmic one has log10 of its values as coordinates.
#[derive(Clone, Debug)]
pub(crate) struct ValueAxis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<Tick>,
    pub(crate) logarithmic: bool,
}

impl ValueAxis {
    /// An axis from `low` to `high` or a little beyond.
    pub(crate) fn linear(mut low: f64, mut high: f64) -> Self {
        // Rounding makes differences this small meaningless; the axis of a constant surrounds it.
        if high - low <= low.abs().max(high.abs()) * 1e-9 {
            let room = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        let room = (high - low) * 0.05;
        // Room below zero would suggest that values might be negative.
        low = if low >= 0.0 {
            (low - room).max(0.0)
        } else {
            low - room
        };
        high += room;
        let spacing = nice_spacing(low, high, 5);
        let ticks = places(low, high, spacing).map(|at| Tick {
            at,
            label: number::tick(at, spacing),
        });
        Self {
            low,
            high,
            ticks: ticks.collect(),
            logarithmic: false,
        }
    }

    /// A logarithmic axis between two positive numbers.
    pub(crate) fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = (low.log10() - 0.05, high.log10() + 0.05);
        let decades = high - low;
        let multiples: &[f64] = if decades < 3.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let every = (decades / 6.0).ceil().max(1.0) as i32;
        let mut ticks = Vec::new();
        for exponent in low.floor() as i32..=high.ceil() as i32 {
            if exponent % every != 0 {
                continue;
            }
            for multiple in multiples {
                let value = multiple * 10_f64.powi(exponent);
                if (low..=high).contains(&value.log10()) {
                    ticks.push(Tick {
                        at: value.log10(),
                        label: number::tick(value, value),
                    });
                }
            }
        }
        Self {
            low,
            high,
            ticks,
            logarithmic: true,
        }
    }

    /// Shares from 0 to 100 %.
    pub(crate) fn shares() -> Self {
        let ticks = (0..=4).map(|quarter| Tick {
            at: f64::from(quarter) / 4.0,
            label: format!("{} %", quarter * 25),
        });
        Self {
            low: 0.0,
            high: 1.0,
            ticks: ticks.collect(),
            logarithmic: false,
        }
    }

    /// Where a value lies; beyond the ends, at the nearer end.
    pub(crate) fn coordinate(&self, value: f64) -> f64 {
        let at = if self.logarithmic {
            value.log10()
        } else {
            value
        };
        at.clamp(self.low, self.high)
    }
}

/// The distance of about `count` ticks: 1, 2 or 5 times a power of ten.
fn nice_spacing(low: f64, high: f64, count: u32) -> f64 {
    let rough = (high - low) / f64::from(count);
    let power = 10_f64.powf(rough.log10().floor());
    let multiple = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|m| m * power >= rough * 0.7);
    multiple.unwrap_or(10.0) * power
}

/// The multiples of `spacing` from `low` to `high`.
fn places(low: f64, high: f64, spacing: f64) -> impl Iterator<Item = f64> {
    let first = (low / spacing - 1e-6).ceil();
    let count = ((high / spacing + 1e-6).floor() - first).clamp(0.0, 50.0) as u32;
    (0..=count).map(move |index| (first + f64::from(index)) * spacing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &ValueAxis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers_within_the_axis() {
        assert_eq!(
            labels(&ValueAxis::linear(1.13, 3.9)),
            ["1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"]
        );
        assert_eq!(
            labels(&ValueAxis::linear(0.0, 6e-4)),
            ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4", "6e-4"]
        );
        for value in [0.0, 5.0, -3.0, 1e-30, 1e30] {
            let axis = ValueAxis::linear(value, value);
            assert!(axis.low < axis.high && !axis.ticks.is_empty(), "{axis:?}");
            let inside = |tick: &Tick| (axis.low..=axis.high).contains(&tick.at);
            assert!(axis.ticks.iter().all(inside), "{axis:?}");
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_or_finer() {
        assert_eq!(
            labels(&ValueAxis::logarithmic(0.02, 3.0)),
            ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        let wide = ValueAxis::logarithmic(1e-12, 1e12);
        assert!((3..=8).contains(&wide.ticks.len()), "{wide:?}");
        assert!(wide.logarithmic && wide.coordinate(1e30) == wide.high);
    }
}
