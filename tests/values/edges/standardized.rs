//! Standardised logits: scale and offset of a row's logits change no loss; no plan cuts such rows into segments.

use super::engines;
use crate::cases::Tolerance;
use crate::cases::inputs::{self, Kind};
use crate::cases::tolerance::assert_close;
use crate::problems::problem;
use wgpu_distill::plan::{Limits, Plan, Tiling};
use wgpu_distill::{
    Batch, Config, Error, HardTemperature, Outputs, Progress, Standardization, Storage,
};

fn config(hard_temperature: HardTemperature) -> Config {
    Config {
        standardization: Standardization::ZScore,
        student_temperature: 2.0,
        teacher_temperature: 2.0,
        hard_temperature,
        ..Config::default()
    }
}

#[test]
fn scale_and_offset_of_the_logits_change_no_loss() {
    let (rows, classes) = (4, 1003);
    let (student, teacher) = inputs::logits(Kind::Normal, rows, classes, classes, 5);
    // Multiples of 1/64, which the offsets keep.
    let [student, teacher] =
        [student, teacher].map(|x| x.iter().map(|x| (x * 64.0).round() / 64.0).collect());
    let labels = [0, 7, 1002, 500];
    let config = config(HardTemperature::Student);
    for engine in engines() {
        let run = |student: &Vec<f32>, teacher: &Vec<f32>| {
            let batch = Batch::new(student, teacher, &labels, classes);
            let got = engine.run(&config, Progress::new(2, 5), &batch, Outputs::ALL);
            got.unwrap_or_else(|e| panic!("{}: {e}", engine.describe()))
        };
        let moved = |x: &Vec<f32>, scale: f32, offset: f32| -> Vec<f32> {
            x.iter().map(|x| x * scale + offset).collect()
        };
        let want = run(&student, &teacher);
        for (scale, offset) in [(1.0, 30_000.0), (0.25, 0.0), (1024.0, 4e6)] {
            let got = run(
                &moved(&student, scale, offset),
                &moved(&teacher, 2.0 * scale, -offset),
            );
            let about = format!("{}, times {scale}, plus {offset}", engine.describe());
            for (got, want) in got.rows.iter().zip(&want.rows) {
                let (got, want) = (f64::from(got.loss), f64::from(want.loss));
                let allowed = Tolerance::F32.of_two().loss(want, 1.0);
                assert_close(&about, got, want, allowed);
            }
            let (got, want) = (
                got.into_grad_student_logits(),
                want.clone().into_grad_student_logits(),
            );
            for (got, want) in got.iter().zip(&want) {
                let allowed = Tolerance::F32.of_two().gradient(f64::from(want.abs()), 0.1);
                assert_close(&about, f64::from(got * scale), f64::from(*want), allowed);
            }
        }
    }
}

#[test]
fn rows_are_not_cut_into_segments() {
    let limits = Limits {
        workgroup_bytes: 32 << 10,
        ..Limits::DEFAULT
    };
    let problem = problem(1, 128_256, Storage::F32);
    let plain = Plan::new(&Config::default(), &problem, &limits).expect("a plan");
    assert!(plain.segments() > 1, "{plain}");
    let config = config(HardTemperature::Own(1.0));
    let plan = Plan::new(&config, &problem, &limits).expect("a plan");
    assert_eq!(plan.segments(), 1, "{plan}");
    let tiling = Tiling {
        lanes: 64,
        workgroup_size: 64,
        vectors_per_lane: 4,
        subgroup_min: None,
        segments: 2,
    };
    let refused = Plan::with_tiling(&config, &problem, &limits, &tiling);
    match refused {
        Err(Error::Unsupported { what, .. }) => {
            assert!(what.contains("`Standardization::ZScore`"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}
