//! The paper that charts are drawn on: axes, grid and labels, as SVG text.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{TimeAxis, ValueAxis};
use super::palette::Ink;

/// Width in pixels of the page.
const WIDTH: i32 = 560;
/// Height in pixels of the page.
const HEIGHT: i32 = 284;
/// Room around the plot for labels.
const LEFT: i32 = 62;
const RIGHT: i32 = 22;
const TOP: i32 = 12;
const BOTTOM: i32 = 58;
/// Units per pixel: the backend rounds to integers, which would make lines jagged.
const FINE: i32 = 8;
/// Height of labels in pixels.
const FONT: f64 = 11.5;
/// The backend divides font sizes by this.
const FONT_UNITS: f64 = 1.24;

/// The outcome of drawing: an error is the backend's text.
pub(crate) type Drawn<T = ()> = Result<T, String>;

/// A plot under construction, in steps and values.
pub(crate) struct Canvas<'a> {
    root: DrawingArea<SVGBackend<'a>, Shift>,
    plane: DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
}

/// Draws a plot: the grid, what `draw` draws, then the labels.
pub(crate) fn plot(
    time: &TimeAxis,
    values: &ValueAxis,
    draw: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Drawn<String> {
    let mut svg = String::new();
    {
        let size = ((WIDTH * FINE) as u32, (HEIGHT * FINE) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let horizontal = LEFT * FINE..(WIDTH - RIGHT) * FINE;
        // Pixels count downwards, values upwards.
        let vertical = std::ops::Range {
            start: (HEIGHT - BOTTOM) * FINE,
            end: TOP * FINE,
        };
        let plane = root.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
            time.low..time.high,
            values.low..values.high,
            (horizontal, vertical),
        ));
        let canvas = Canvas { root, plane };
        canvas.grid(time, values)?;
        draw(&canvas)?;
        canvas.line(
            [(time.low, values.low), (time.high, values.low)],
            Ink::Axis,
            1.0,
            1.0,
        )?;
        canvas.labels(time, values)?;
        canvas.root.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

impl Canvas<'_> {
    /// A line through points; widths are in pixels.
    pub(crate) fn line(
        &self,
        points: impl IntoIterator<Item = (f64, f64)>,
        ink: Ink,
        width: f64,
        opacity: f64,
    ) -> Drawn {
        let points: Vec<_> = points.into_iter().collect();
        if let [point] = points[..] {
            return self.dot(point, ink, width * 1.5);
        }
        let style = ink.color().mix(opacity).stroke_width(units(width));
        self.plane
            .draw(&PathElement::new(points, style))
            .map_err(|error| error.to_string())
    }

    /// A filled outline.
    pub(crate) fn area(&self, outline: Vec<(f64, f64)>, ink: Ink, opacity: f64) -> Drawn {
        self.plane
            .draw(&Polygon::new(outline, ink.color().mix(opacity)))
            .map_err(|error| error.to_string())
    }

    /// A dot; the radius is in pixels.
    pub(crate) fn dot(&self, at: (f64, f64), ink: Ink, radius: f64) -> Drawn {
        self.plane
            .draw(&Circle::new(at, units(radius), ink.color().filled()))
            .map_err(|error| error.to_string())
    }

    /// A small triangle at the top of the plot, pointing at a step.
    pub(crate) fn mark(&self, step: f64, ink: Ink) -> Drawn {
        let (x, _) = self.plane.map_coordinate(&(step, 0.0));
        let (top, half) = ((TOP - 9) * FINE, 9 * FINE / 2);
        let outline = vec![(x - half, top), (x + half, top), (x, TOP * FINE)];
        self.root
            .draw(&Polygon::new(outline, ink.color().filled()))
            .map_err(|error| error.to_string())
    }

    fn grid(&self, time: &TimeAxis, values: &ValueAxis) -> Drawn {
        for tick in &values.ticks {
            self.line(
                [(time.low, tick.at), (time.high, tick.at)],
                Ink::Grid,
                1.0,
                1.0,
            )?;
        }
        Ok(())
    }

    fn labels(&self, time: &TimeAxis, values: &ValueAxis) -> Drawn {
        let left = LEFT * FINE;
        for tick in &values.ticks {
            let (_, y) = self.plane.map_coordinate(&(time.low, tick.at));
            self.text(&tick.label, (left - 8 * FINE, y), HPos::Right, FONT)?;
        }
        let bottom = (HEIGHT - BOTTOM) * FINE;
        let row = |index: i32| bottom + (14 + 15 * index) * FINE;
        for tick in &time.ticks {
            let (x, _) = self.plane.map_coordinate(&(tick.at, values.low));
            let stroke = Ink::Axis.color().stroke_width(units(1.0));
            let line = PathElement::new(vec![(x, bottom), (x, bottom + 4 * FINE)], stroke);
            self.root.draw(&line).map_err(|error| error.to_string())?;
        }
        for (index, (name, ticks)) in time.rows().into_iter().enumerate() {
            if ticks.is_empty() {
                continue;
            }
            let y = row(index as i32);
            self.text(name, (left - 14 * FINE, y), HPos::Right, FONT - 1.0)?;
            for tick in ticks {
                let (x, _) = self.plane.map_coordinate(&(tick.at, values.low));
                self.text(&tick.label, (x, y), HPos::Center, FONT - 0.5)?;
            }
        }
        Ok(())
    }

    fn text(&self, text: &str, at: (i32, i32), side: HPos, size: f64) -> Drawn {
        let style = ("sans-serif", size * f64::from(FINE) * FONT_UNITS)
            .into_font()
            .color(&Ink::Muted.color())
            .pos(Pos::new(side, VPos::Center));
        self.root
            .draw(&Text::new(text, at, style))
            .map_err(|error| error.to_string())
    }
}

/// Pixels in the backend's units.
fn units(pixels: f64) -> u32 {
    (pixels * f64::from(FINE)).round().max(1.0) as u32
}
