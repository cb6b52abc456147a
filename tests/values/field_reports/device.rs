//! Issues about memory, plans and buffers.

use crate::problems::problem;
use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::plan::{Limits, Plan};
use wgpu_distill::shader::Kernel;
use wgpu_distill::{Batch, Config, Storage};

use super::{PROGRESS, check, normal};
use crate::cases::Case;
use crate::cases::inputs::Kind;
use crate::{buffers, record};

/// Liger #272: gradients written in place destroyed tensors that were still in use. Here the gradient is in place only on request.
#[test]
fn inputs_stay_as_they_are() {
    let Some(gpu) = buffers::gpu() else { return };
    let (rows, classes) = (3, 50);
    let [student, teacher] = [7, 8].map(|seed| normal(rows * classes, seed));
    let labels: [i32; 3] = [0, -100, 49];
    let bytes: [&[u8]; 3] = [
        bytemuck::cast_slice(&student),
        bytemuck::cast_slice(&teacher),
        bytemuck::cast_slice(&labels),
    ];
    let [s, t, l] = bytes.map(|bytes| record::filled(&gpu, bytes));
    let own = record::filled(&gpu, &vec![0; 4 * rows * classes]);
    let batch = GpuBatch {
        rows,
        student_logits: GpuLogits::new(&s, Storage::F32, classes),
        teacher_logits: GpuLogits::new(&t, Storage::F32, classes),
        labels: record::at(&l, 0).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let gradient = |buffer| GpuOutputs {
        gradient: Some(GpuLogits::new(buffer, Storage::F32, classes)),
        ..GpuOutputs::default()
    };
    let config = Config::default();
    let run = |on| {
        record::run(
            &gpu,
            &config,
            PROGRESS,
            &batch,
            gradient(on),
            &[&s, &t, &l, &own],
        )
        .expect("valid")
        .1
    };
    let beside = run(&own);
    assert!(
        beside
            .iter()
            .zip(bytes)
            .all(|(after, before)| after == before),
        "inputs changed"
    );
    let in_place = run(&s);
    assert_eq!(
        in_place[0], beside[3],
        "the same gradient, in the requested buffer"
    );
    assert!(
        in_place[1..3]
            .iter()
            .zip(&bytes[1..])
            .all(|(after, before)| after == before),
        "others changed"
    );
}

/// TRL #2255: `log_softmax` of a batch of long rows ran out of memory.
///
/// Internal allocations depend on the number of rows and not on the classes (`tests/process/memory.rs` measures them).
#[test]
fn long_rows_need_no_memory_of_their_own() {
    let bytes = |classes| {
        let plan = Plan::new(
            &Config::default(),
            &problem(8192, classes, Storage::Bf16),
            &Limits::DEFAULT,
        );
        plan.expect("a plan").workspace_bytes()
    };
    let (short, long) = (bytes(1000), bytes(151_936));
    let matrix = 2 * 8192 * 151_936;
    assert!(
        long <= short + 200 * 8192 && long < matrix / 1000,
        "{short}, {long}"
    );
}

/// Fast-LLM #497: the fused loss was slower than the compiled one.
///
/// `benches` measures speed. This test requires that one kernel reads the logits, and that it reads rows that fit registers once if there
/// are many and the device is a large GPU. With default limits, 1000 classes would take a lane count that `Tiling` reads in tiles.
#[test]
fn one_kernel_reads_the_logits() {
    let large_gpu = Limits {
        subgroup: Some((32, 32)),
        registers: 48,
        resident_registers: 128,
        ..Limits::DEFAULT
    };
    for limits in [Limits::DEFAULT, large_gpu] {
        for classes in [100, 1000, 4096] {
            let problem = problem(65_536, classes, Storage::F32);
            let plan = Plan::new(&Config::default(), &problem, &limits).expect("a plan");
            let readers = plan
                .kernels()
                .into_iter()
                .filter(|k| !matches!(k, Kernel::Summary | Kernel::ValidRows));
            assert_eq!(readers.collect::<Vec<_>>(), [Kernel::Distill], "{plan}");
            let variant = plan.variant_of(Kernel::Distill);
            let kept = 4 * variant.vectors_per_lane * variant.lanes;
            let in_tiles = limits == Limits::DEFAULT && classes == 1000;
            assert!(in_tiles || kept as usize >= classes, "{plan}");
        }
    }
}

/// verl #2899, fla #1080: the tail of a vocabulary that is not a multiple of the tile was skipped, and 32-bit offsets wrapped around.
#[test]
fn odd_vocabularies_and_offsets_beyond_32_bits() {
    let case = Case::of_shape(2, 50_257, Kind::Normal, [Storage::F32; 3]);
    let host = case.host();
    let last = Batch {
        labels: &[50_256, 50_256],
        ..host.batch()
    };
    check(Config::default(), &last);
    // 20,000 rows of 151,936 classes are 3 * 2^30 elements. Chunks of whole rows keep every index within 32 bits.
    let (rows, classes) = (20_000, 151_936);
    let plan = Plan::new(
        &Config::default(),
        &problem(rows, classes, Storage::Bf16),
        &Limits::DEFAULT,
    )
    .expect("a plan");
    let mut next = 0;
    for chunk in plan.chunks() {
        assert_eq!(chunk.rows.start, next);
        assert!(2 * chunk.rows.len() * classes < 1 << 31, "{chunk:?}");
        next = chunk.rows.end;
    }
    assert_eq!(next, rows);
}
