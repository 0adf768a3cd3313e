//! Charts as SVG text in the page's colours.

pub(crate) mod axis;
mod canvas;
pub(crate) mod lines;
pub(crate) mod palette;
pub(crate) mod shares;

pub(crate) use axis::TimeAxis;
pub(crate) use lines::{LineChart, Point, Range};
pub(crate) use palette::Ink;
