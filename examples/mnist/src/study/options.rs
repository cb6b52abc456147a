//! The study's command line.

use std::path::PathBuf;

/// Compares methods with teachers from bad to good, few and many labels, right and wrong ones, at two temperatures.
///
/// docs/STUDY.md has the plan and the results. The study runs on the CPU path.
#[derive(clap::Args)]
pub struct StudyOptions {
    /// Folder with MNIST's four IDX files, gzipped or not [default: the repository's data/]
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data"), hide_default_value = true)]
    pub data: PathBuf,

    /// Repetitions, each with other teachers, choices of digits, wrong labels and initial weights
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub seeds: u64,

    /// Seeds that are trained at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,

    /// Training steps of a student
    #[arg(long, value_name = "N", default_value_t = super::design::Design::default().steps)]
    pub steps: u64,

    /// Folder for study.md (tables), study.csv and study.svg [default: target/study of the repository]
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/study"), hide_default_value = true)]
    pub out: PathBuf,
}

impl StudyOptions {
    /// Refuses values with which no training can start.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("--seeds", self.seeds),
            ("--threads", self.threads as u64),
            ("--steps", self.steps),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((option, _)) => Err(format!("{option} is 0, expected at least 1")),
            None => Ok(()),
        }
    }
}
