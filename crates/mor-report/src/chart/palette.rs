//! The colours of charts, light and dark.
//!
//! Charts are drawn in the light colours, as plain SVG attributes. The page's style sheet has a rule for each of
//! these that puts a custom property in its place, so that one drawing serves both colour schemes.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// What a colour is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Axis labels.
    Muted,
    /// Grid lines.
    Grid,
    /// The line at the bottom of a plot.
    Axis,
    /// What lies behind a plot; parts stacked shares.
    Surface,
    /// Training.
    Train,
    /// Validation.
    Validation,
    /// Skipped steps.
    Skipped,
    /// Leaps of the loss.
    Spike,
    /// Depths and classes, from shallow to deep.
    Ramp(usize),
}

/// Colours of the ramp.
pub(crate) const RAMP: usize = 8;

/// Name, light colour, dark colour.
const INKS: [(&str, u32, u32); 8 + RAMP] = [
    ("muted", 0x5f6b7a, 0x98a3b3),
    ("grid", 0xe8ebef, 0x2a313a),
    ("axis", 0xb4bcc8, 0x4c5663),
    ("surface", 0xffffff, 0x171b21),
    ("train", 0x2563b8, 0x6ba6f0),
    ("validation", 0xc2410c, 0xfb923c),
    ("skipped", 0xb5173b, 0xff6b81),
    ("spike", 0x9a6a05, 0xeab308),
    // Deep is dark on white and bright on black: the most salient either way.
    ("ramp-0", 0xdcf1cb, 0x24306a),
    ("ramp-1", 0xb5e0be, 0x24508f),
    ("ramp-2", 0x7fcdbb, 0x1f73a8),
    ("ramp-3", 0x41b6c4, 0x2b97b9),
    ("ramp-4", 0x1d91c0, 0x52b9be),
    ("ramp-5", 0x225ea8, 0x86d0b5),
    ("ramp-6", 0x253494, 0xbde4b4),
    ("ramp-7", 0x0b1f57, 0xe9f7c4),
];

impl Ink {
    fn index(self) -> usize {
        match self {
            Self::Muted => 0,
            Self::Grid => 1,
            Self::Axis => 2,
            Self::Surface => 3,
            Self::Train => 4,
            Self::Validation => 5,
            Self::Skipped => 6,
            Self::Spike => 7,
            Self::Ramp(index) => 8 + index.min(RAMP - 1),
        }
    }

    /// Its name in the style sheet.
    pub(crate) fn name(self) -> &'static str {
        INKS[self.index()].0
    }

    /// The colour that charts are drawn in.
    pub(crate) fn color(self) -> RGBColor {
        let [_, red, green, blue] = INKS[self.index()].1.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// The `index`-th of `count` colours from shallow to deep, as far apart as legible.
    pub(crate) fn ramp(index: usize, count: usize) -> Self {
        match count {
            0 | 1 => Self::Ramp(4),
            2..=6 => Self::Ramp(1 + index * 5 / (count - 1)),
            _ => Self::Ramp(index * (RAMP - 1) / (count - 1)),
        }
    }
}

/// The custom properties of the light or the dark colours.
pub(crate) fn properties(dark: bool) -> String {
    let mut css = String::new();
    for (name, light_color, dark_color) in INKS {
        let color = if dark { dark_color } else { light_color };
        let _ = write!(css, "--{name}:#{color:06x};");
    }
    css
}

/// Rules that give drawn colours their custom properties, and swatches theirs.
pub(crate) fn rules() -> String {
    let mut css = String::new();
    for (name, light, _) in INKS {
        let _ = writeln!(
            css,
            "svg [fill=\"#{light:06X}\"]{{fill:var(--{name})}}\
             svg [stroke=\"#{light:06X}\"]{{stroke:var(--{name})}}\
             .ink-{name}{{--ink:var(--{name})}}"
        );
    }
    css
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_drawn_colour_has_one_meaning() {
        let colors: BTreeSet<u32> = INKS.iter().map(|(_, light, _)| *light).collect();
        assert_eq!(colors.len(), INKS.len());
    }

    #[test]
    fn names_belong_to_their_colours() {
        assert_eq!(Ink::Spike.name(), "spike");
        assert_eq!(Ink::Ramp(7).name(), "ramp-7");
        assert_eq!(Ink::Train.color(), RGBColor(0x25, 0x63, 0xb8));
    }

    #[test]
    fn ramps_go_from_shallow_to_deep_without_repeating() {
        for count in 2..=RAMP {
            let names: Vec<_> = (0..count).map(|i| Ink::ramp(i, count).name()).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        }
    }
}
