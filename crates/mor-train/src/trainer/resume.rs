//! Going on from a checkpoint.

use mor_files::folder::{link_copy, remove_whole};
use mor_model::Model;

use crate::checkpoint::{Best, Checkpoint, Measured, State};
use crate::data::Dataset;
use crate::recipe::{Matmul, Recipe, TrainSettings, differences};
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
        // So that one command can be repeated until a run is done. Damaged checkpoints stop it.
        (true, true) if folder.has_damaged() => {
            return fail("has damaged checkpoints only; start again in another --output");
        }
        (true, true) => {
            found.warnings.push(format!(
                "{} holds no checkpoint: starting from the beginning",
                folder.path().display()
            ));
            return Ok(found);
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
        if let Some(aside) = RunFolder::damaged(dir) {
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
    let words = ["was", "now"];
    if checkpoint.config != recipe.model {
        return fail(format!(
            "belongs to another model than {} describes: {}",
            recipe.path().display(),
            differences("model", words, &checkpoint.config, &recipe.model)
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
    let [before, now] = [&checkpoint.state.settings, &recipe.train].map(free);
    if before != now {
        return fail(format!(
            "was made with other [train] settings than {} has now: {}",
            recipe.path().display(),
            differences("train", words, &before, &now)
        ));
    }
    if checkpoint.state.data != data {
        return fail("was trained on other data than --data names".to_owned());
    }
    Ok(())
}

/// Figures of two files cannot be compared: where a run is measured on other data than before, which is best is decided
/// anew. Gives the best so far, which [`set_best_aside`] is for.
pub(super) fn begin_best_anew(state: &mut State, valid: Option<&Dataset>) -> Option<Best> {
    let measured = valid.map(Measured::of);
    if state.measured == measured {
        return None;
    }
    state.measured = measured;
    state.validated = None;
    state.best.take()
}

/// Moves the best checkpoint out of the way of the next one; gives what to tell.
///
/// # Errors
/// [`TrainError::Io`].
pub(super) fn set_best_aside(folder: &RunFolder, best: Best) -> Result<String> {
    let (dir, aside) = (folder.best(), folder.earlier_best(best.step));
    if dir.is_dir() {
        if aside.is_dir() {
            remove_whole(&aside)?;
        }
        std::fs::rename(&dir, &aside).map_err(TrainError::io(&dir))?;
    }
    Ok(format!(
        "{} may have been measured on other validation data before, and figures of two files do not compare: the best checkpoint \
         so far, of step {}, is set aside in {}, and the best is chosen anew",
        folder.path().display(),
        best.step,
        aside.display()
    ))
}

pub(super) fn values_of(model: &Model) -> Vec<Vec<f32>> {
    let tensors = model.to_tensors().into_iter();
    tensors.map(|(_, _, values)| values).collect()
}
