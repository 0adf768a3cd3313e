//! Going on from a checkpoint.

use mor_model::Model;

use crate::checkpoint::{Checkpoint, link_copy};
use crate::recipe::{Matmul, Recipe, TrainSettings};
use crate::run::RunFolder;
use crate::{Result, TrainError};

/// What there is to resume from.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest whole checkpoint; none for a fresh run, which needs a folder without one.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Damaged ones that were passed over.
    pub(super) damaged: Vec<std::path::PathBuf>,
    /// What to tell about them.
    pub(super) warnings: Vec<String>,
}

/// Looks for the checkpoint to resume from.
pub(super) fn find_checkpoint(folder: &RunFolder, resume: bool) -> Result<Found> {
    let mut candidates = folder.checkpoints();
    candidates.extend(Some(folder.best()).filter(|dir| dir.is_dir()));
    let fail = |problem: &str| {
        Err(TrainError::Run {
            path: folder.path().to_owned(),
            problem: problem.to_owned(),
        })
    };
    let mut found = Found::default();
    match (candidates.is_empty(), resume) {
        (true, false) => return Ok(found),
        (true, true) => {
            return fail("holds no checkpoint to resume from; leave out --resume to start");
        }
        (false, false) => {
            return fail("already holds a run; add --resume to go on, or name another --output");
        }
        (false, true) => {}
    }
    for dir in candidates {
        match Checkpoint::open(&dir) {
            Ok(checkpoint) => {
                let step = checkpoint.state.step;
                for warning in &mut found.warnings {
                    warning.push_str(&format!("; going on from the one after step {step}"));
                }
                found.checkpoint = Some(checkpoint);
                return Ok(found);
            }
            Err(error) => {
                found.warnings.push(error.to_string());
                found.damaged.push(dir);
            }
        }
    }
    fail(&format!(
        "has damaged checkpoints only ({}); start again in another --output",
        found.warnings.join("; ")
    ))
}

/// Makes `best` what the checkpoint says it is: a crash may have come after the checkpoint was written and before it
/// became the best.
pub(super) fn restore_best(folder: &RunFolder, checkpoint: &Checkpoint) -> Result<()> {
    let state = &checkpoint.state;
    let is_best = state.best.map(|best| best.step) == Some(state.step);
    if is_best && checkpoint.path != folder.best() {
        link_copy(&checkpoint.path, &folder.best())?;
    }
    Ok(())
}

/// Moves damaged checkpoints out of the way, so that they count for nothing but can be looked at.
pub(super) fn set_aside(damaged: &[std::path::PathBuf]) {
    for dir in damaged {
        if let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) {
            let aside = parent.join(format!("damaged-{}", name.to_string_lossy()));
            // Should this fail, it is found damaged the next time too.
            let _ = std::fs::rename(dir, aside);
        }
    }
}

/// A resumed run repeats what the uninterrupted one would have done, so nothing that decides over
/// that may have changed. The budget, the intervals and the precision of products (which another
/// machine may not have) may.
pub(super) fn check_same_run(recipe: &Recipe, data: &str, checkpoint: &Checkpoint) -> Result<()> {
    let fail = |problem: String| {
        Err(TrainError::Checkpoint {
            path: checkpoint.path.clone(),
            problem: format!("{problem}; start another run with another --output"),
        })
    };
    if checkpoint.config != recipe.model {
        return fail(format!(
            "belongs to another model than {} describes",
            recipe.path().display()
        ));
    }
    let free = |settings: &TrainSettings| TrainSettings {
        steps: None,
        epochs: None,
        minutes: None,
        validate_every: 1,
        validate_rows: None,
        samples: Vec::new(),
        checkpoint_minutes: 1.0,
        checkpoint_steps: None,
        keep: 1,
        matmul: Matmul::F32,
        ..settings.clone()
    };
    if free(&checkpoint.state.settings) != free(&recipe.train) {
        return fail(format!(
            "was made with other [train] settings than {} has now",
            recipe.path().display()
        ));
    }
    if checkpoint.state.data != data {
        return fail("was trained on other data than --data names".to_owned());
    }
    Ok(())
}

pub(super) fn values_of(model: &Model) -> Vec<Vec<f32>> {
    let tensors = model.to_tensors().into_iter();
    tensors.map(|(_, _, values)| values).collect()
}
