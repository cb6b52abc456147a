//! The study: many students in many conditions. docs/STUDY.md has its plan and its results.

mod chart;
mod contrasts;
mod design;
mod digits;
mod options;
mod results;
mod tables;
mod training;

use std::error::Error;
use std::fs;
use std::time::Instant;

use indicatif::ProgressBar;
use wgpu_distill::Engine;
use wgpu_distill::cpu::Cpu;

use crate::data;
use crate::students::each_seed;
use design::Design;
pub use options::StudyOptions;
use results::Results;
use training::Study;

/// Seeds up to this one are for trials before the study.
const TRIAL_SEEDS: u64 = 100;

/// Trains all students and writes the tables and the plot.
pub fn run(options: &StudyOptions, bar: impl Fn(u64) -> ProgressBar) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    options.check()?;
    fs::create_dir_all(&options.out)
        .map_err(|reason| format!("--out {}: {reason}", options.out.display()))?;
    let digits = data::read(&options.data)?;
    let design = Design {
        steps: options.steps,
        ..Design::default()
    };
    let largest = design.sizes.iter().max().copied().unwrap_or(0);
    let (needed, there) = (largest + design.validation, digits.train.len());
    if there < needed {
        return Err(format!("the study needs {needed} training digits, there are {there}").into());
    }
    let engine = Engine::Cpu {
        cpu: Cpu::new().with_threads(1),
        reason: String::new(),
    };
    let arms = design::arms();
    let study = Study::new(&engine, &design, &arms, &digits);
    println!(
        "{} conditions, {} methods, {} students for each of {} seeds",
        design.cells().len(),
        arms.len(),
        study.students(),
        options.seeds,
    );
    let bar = bar(options.seeds * study.students());
    let outcomes = each_seed(options.seeds, options.threads, |seed| {
        study.train_seed(TRIAL_SEEDS + seed, &bar)
    })?;
    bar.finish_and_clear();
    let results = Results {
        design: &design,
        arms: &arms,
        cells: design.cells(),
        outcomes,
    };

    let write = |name: &str, text: String| {
        let path = options.out.join(name);
        fs::write(&path, text).map_err(|reason| format!("{}: {reason}", path.display()))
    };
    let summary = results.summary();
    println!("\n{summary}\n{}", results.verdict());
    let parts = [
        summary,
        results.verdict(),
        results.contrasts(),
        results.details(),
    ];
    write("study.md", parts.join("\n"))?;
    write("study.csv", results.csv())?;
    write("study.svg", chart::svg(&results)?)?;
    println!("\ntables    {}", options.out.display());
    println!("total     {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The whole study with teachers and students of a few steps.
    #[test]
    fn a_small_study_fills_every_condition() {
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data"));
        let data::Mnist { train, test } = data::read(data).expect("the repository has digits");
        let first = |count| (0..count).collect::<Vec<_>>();
        let digits = data::Mnist {
            train: train.select(&first(150)),
            test: test.select(&first(60)),
        };
        let mut design = Design {
            sizes: vec![40, 70],
            steps: 3,
            hidden: vec![8],
            validation: 50,
            batch: 16,
            ..Design::default()
        };
        for teacher in &mut design.teachers {
            teacher.hidden = vec![8];
            teacher.epochs = 1;
        }
        let engine = Engine::cpu();
        let arms = design::arms();
        let study = Study::new(&engine, &design, &arms, &digits);
        let bar = ProgressBar::hidden();
        let train = |seed| study.train_seed(seed, &bar).expect("valid");
        let (first, second) = (train(1), train(2));
        assert_eq!(bar.position(), 2 * study.students());
        assert_eq!(first.students, train(1).students);
        assert_ne!(first.students, second.students);

        let cells = design.cells();
        for (cell, students) in cells.iter().zip(&first.students) {
            for (arm, accuracy) in arms.iter().zip(students) {
                let both = [accuracy.validation, accuracy.test];
                let ok = both.iter().all(|a| (0.0..=100.0).contains(a));
                assert!(ok, "{}: {accuracy:?}", arm.name);
            }
            // Labels only do not depend on teacher and temperature.
            let other = cells.iter().position(|other| {
                other.teacher != cell.teacher
                    && other.temperature != cell.temperature
                    && (other.size, other.wrong) == (cell.size, cell.wrong)
            });
            let other = &first.students[other.expect("another teacher")];
            assert_eq!(students[0], other[0]);
            assert_ne!(students[1], other[1]);
        }

        let results = Results {
            design: &design,
            arms: &arms,
            cells,
            outcomes: vec![first, second],
        };
        let lines = results.csv().lines().count();
        assert_eq!(lines, 1 + design.cells().len() * arms.len());
        for text in [results.summary(), results.details()] {
            assert!(arms.iter().all(|arm| text.contains(&arm.name)));
            assert!(!text.contains("NaN"), "{text}");
        }
        let contrasts = results.contrasts();
        assert!(!contrasts.contains("NaN"), "{contrasts}");
        assert!(results.verdict().contains("min, cosine"));
        assert!(chart::svg(&results).expect("a plot").ends_with("</svg>\n"));
    }
}
