//! Checks of divergences of sampled tokens, whose teacher is one log-probability a row.

use crate::{Config, Error, Result, Scope, Selection, TssrGradient};

/// Refuses whatever needs the teacher's row, where the divergence has one log-probability instead.
pub(crate) fn choices(config: &Config) -> Result<()> {
    let divergence = config.divergence;
    if !divergence.is_sampled() {
        return Ok(());
    }
    let refuse = |what: String, why| {
        let what = format!("{what} with the divergence `{divergence}`");
        Err(Error::Unsupported { what, why })
    };
    if config.tssr_gradient == TssrGradient::Attached {
        let why = "KDR needs the teacher's row; use `TssrGradient::Detached`";
        return refuse("`TssrGradient::Attached`".to_owned(), why);
    }
    if config.scope == Scope::Batch {
        let why = "KDR needs the teacher's row; use `Scope::Row` or `Scope::Given`";
        return refuse("`Scope::Batch`".to_owned(), why);
    }
    if config.scope == Scope::Row && config.selection.needs_kdr() {
        let why = "KDR needs the teacher's row; use `Fixed`, `Tstr` or `Scope::Given`";
        return refuse(format!("the selection `{}`", config.selection), why);
    }
    if matches!(config.selection, Selection::Margin(_)) {
        let why = "the margin needs the teacher's row; use `Fixed`, `Tstr` or `Scope::Given`";
        return refuse(format!("the selection `{}`", config.selection), why);
    }
    if config.teacher_temperature != 1.0 {
        let t = config.teacher_temperature;
        let why = "one log-probability has no other temperature; give it at the teacher's temperature, with `teacher_temperature: 1.0`";
        return refuse(format!("`teacher_temperature` {t}"), why);
    }
    Ok(())
}

/// Refuses more than one log-probability a row for a divergence of sampled tokens.
pub(crate) fn teacher(config: &Config, teacher: usize) -> Result<()> {
    if config.divergence.is_sampled() && teacher != 1 {
        return Err(Error::SampledTeacher {
            divergence: config.divergence.to_string(),
            got: teacher,
        });
    }
    Ok(())
}
