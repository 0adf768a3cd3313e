//! Where positions enter a technical checkpoint, and tables in it that a formula gives as well.

use mor_config::Positions;

use super::shown;
use crate::{Checkpoint, ImportError, TechnicalOptions};

const LEARNED: &str = "embeddings.pos_encoding.pos_embedding.weight";
const SINUSOIDAL: &str = "embeddings.pos_encoding.pe";
/// The last part of a rotary table's name, wherever it stands.
const FREQUENCIES: &str = "inv_freq";
/// The original's context, where no table has one row for each of its positions.
const CONTEXT: usize = 128;
/// The base of rotary angles in every program that does not say otherwise.
const ROPE_THETA: f32 = 10_000.0;

/// What a checkpoint says of positions.
pub(super) struct Found {
    pub(super) positions: Positions,
    pub(super) context: usize,
    pub(super) rope_theta: f32,
    /// Tensors that repeat what follows from the configuration. They were compared with it.
    pub(super) derived: Vec<String>,
}

/// Finds the kind of positions by its table, or takes the one that the caller names where the checkpoint has none.
pub(super) fn find(
    checkpoint: &Checkpoint,
    hidden_size: usize,
    options: &TechnicalOptions,
) -> Result<Found, ImportError> {
    let frequencies: Vec<String> = checkpoint
        .names()
        .filter(|name| name.rsplit('.').next() == Some(FREQUENCIES))
        .map(str::to_owned)
        .collect();
    let has = |name: &str| checkpoint.shape(name).map(|_| name.to_owned());
    let mut tables = [
        (Positions::Learned, has(LEARNED)),
        (Positions::Sinusoidal, has(SINUSOIDAL)),
        (Positions::Rotary, frequencies.first().cloned()),
    ]
    .into_iter()
    .filter_map(|(kind, name)| Some((kind, name?)));
    let (table, second) = (tables.next(), tables.next());
    if let (Some((first, one)), Some((kind, other))) = (&table, &second) {
        let problem = format!(
            "has tables of two kinds of positions: `{}` ({}) and `{}` ({}); remove the one that the model does not use",
            shown(one),
            name_of(*first),
            shown(other),
            name_of(*kind)
        );
        return Err(ImportError::checkpoint(checkpoint.path(), problem));
    }
    let positions = match (table, options.positions) {
        (Some((kind, name)), Some(asked)) if kind != asked => {
            return Err(ImportError::Option(format!(
                "--positions is {}, but {} has the table `{}` of {} positions",
                name_of(asked),
                checkpoint.path().display(),
                shown(&name),
                name_of(kind)
            )));
        }
        (Some((kind, _)), _) | (None, Some(kind)) => kind,
        (None, None) => {
            let problem = format!(
                "has no table of positions: neither `{LEARNED}` (learned) nor `{SINUSOIDAL}` (sinusoidal) nor any \
                 `{FREQUENCIES}` (rotary); if the model's follow from their formula, give --positions sinusoidal or \
                 --positions rotary, and --context"
            );
            return Err(ImportError::checkpoint(checkpoint.path(), problem));
        }
    };
    let mut found = Found {
        positions,
        context: options.context.unwrap_or(CONTEXT),
        rope_theta: ROPE_THETA,
        derived: Vec::new(),
    };
    match positions {
        Positions::Learned => found.context = learned(checkpoint, options)?,
        Positions::Sinusoidal => {
            if checkpoint.shape(SINUSOIDAL).is_some() {
                let rows = check_sinusoids(checkpoint, hidden_size)?;
                found.context = options.context.unwrap_or(rows);
                found.derived.push(SINUSOIDAL.to_owned());
            }
        }
        Positions::Rotary => {
            found.rope_theta = rotary_base(checkpoint, &frequencies, hidden_size, options.heads)?;
            found.derived = frequencies;
        }
    }
    Ok(found)
}

/// As the option names it.
fn name_of(positions: Positions) -> &'static str {
    match positions {
        Positions::Learned => "learned",
        Positions::Sinusoidal => "sinusoidal",
        Positions::Rotary => "rotary",
    }
}

/// The rows of a learned table, which are its context.
fn learned(checkpoint: &Checkpoint, options: &TechnicalOptions) -> Result<usize, ImportError> {
    let [rows, _] = super::matrix(checkpoint, LEARNED)?;
    match options.context {
        Some(context) if context != rows => Err(ImportError::Option(format!(
            "--context is {context}, but the table of learned positions in {} has {rows} rows; leave the option out",
            checkpoint.path().display()
        ))),
        _ => Ok(rows),
    }
}

/// Compares a table of sines and cosines with the formula, and returns its number of positions. Programs keep it as
/// `[1, positions, width]`, `[positions, 1, width]` or without the dimension of the batch.
fn check_sinusoids(checkpoint: &Checkpoint, width: usize) -> Result<usize, ImportError> {
    let fail = |problem: String| {
        ImportError::checkpoint(checkpoint.path(), format!("`{SINUSOIDAL}` {problem}"))
    };
    let shape = checkpoint.shape(SINUSOIDAL).unwrap_or_default();
    let rows = match *shape {
        [rows, columns] | [1, rows, columns] | [rows, 1, columns] if columns == width => rows,
        _ => {
            return Err(fail(format!(
                "has shape {shape:?}; expected [1, positions, {width}]"
            )));
        }
    };
    if rows == 0 {
        return Err(fail("has no positions in it".to_owned()));
    }
    let table = checkpoint.to_f32(SINUSOIDAL)?;
    let rounding = rounding(&table);
    for (position, row) in table.chunks_exact(width).enumerate() {
        for (column, value) in row.iter().enumerate() {
            let angle = mor_math::angle(position, column / 2, width, 10_000.0);
            let expected = if column % 2 == 0 {
                angle.sin()
            } else {
                angle.cos()
            };
            // An angle that was computed in f32 is off by some millionths of itself.
            let tolerance = 1e-5 + 1e-6 * angle + rounding;
            let difference = (f64::from(*value) - expected).abs();
            // Also where the value is not a number.
            if difference.is_nan() || difference > tolerance {
                return Err(fail(format!(
                    "is not the table of sines and cosines (interleaved, base 10000): at position {position}, column \
                     {column} it has {value}, and the formula gives {expected:.6}; to bring it in as a learned table, \
                     rename the tensor to `{LEARNED}`"
                )));
            }
        }
    }
    Ok(rows)
}

/// What values up to 1 are off by when they were stored in 16 bits, as these were if all of them can be. The coarser first:
/// most of its numbers are the finer one's as well.
fn rounding(values: &[f32]) -> f64 {
    let all = |keeps: fn(f32) -> f32| values.iter().all(|value| keeps(*value) == *value);
    if all(|value| half::bf16::from_f32(value).to_f32()) {
        2_f64.powi(-9)
    } else if all(|value| half::f16::from_f32(value).to_f32()) {
        2_f64.powi(-12)
    } else {
        0.0
    }
}

/// The base that all tables of rotary frequencies follow from; the usual one where there is none.
fn rotary_base(
    checkpoint: &Checkpoint,
    names: &[String],
    hidden_size: usize,
    heads: usize,
) -> Result<f32, ImportError> {
    let pairs = hidden_size.checked_div(heads).unwrap_or(0) / 2;
    let mut base = None;
    for name in names {
        let table = checkpoint.to_f32(name)?;
        if table.len() != pairs {
            return Err(ImportError::Option(format!(
                "`{}` in {} has {} frequencies, but --heads {heads} makes heads that take {pairs}; give the number of \
                 heads that the model was trained with",
                shown(name),
                checkpoint.path().display(),
                table.len()
            )));
        }
        let base = *base.get_or_insert_with(|| likely_base(&table));
        if !follows(&table, base) {
            let problem = format!(
                "`{}` does not follow from one base ({base}), as rotary frequencies do here",
                shown(name)
            );
            return Err(ImportError::checkpoint(checkpoint.path(), problem));
        }
    }
    Ok(base.unwrap_or(ROPE_THETA))
}

/// The usual base if it fits, else the one that the second frequency follows from.
fn likely_base(table: &[f32]) -> f32 {
    if follows(table, ROPE_THETA) {
        return ROPE_THETA;
    }
    let base = table.get(1).map_or(f64::NAN, |second| {
        f64::from(*second).powf(-(table.len() as f64))
    });
    // Bases are whole numbers, and the frequency was rounded.
    if (base - base.round()).abs() < 1e-4 * base {
        base.round() as f32
    } else {
        base as f32
    }
}

/// Whether frequencies are `base^(-pair / pairs)`.
pub(super) fn follows(table: &[f32], base: f32) -> bool {
    let pairs = table.len() as f32;
    table.iter().enumerate().all(|(pair, frequency)| {
        let expected = base.powf(-(pair as f32) / pairs);
        (frequency - expected).abs() <= 1e-3 * expected
    })
}
