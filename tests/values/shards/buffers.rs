//! Shards in buffers: the kernels merge what every device observed, and all outputs are those of the whole.

use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, GpuShard, GpuShardStats, GpuSlice};
use wgpu_distill::{
    Config, Divergence, Error, Progress, Shard, Standardization, Storage, TeacherClasses, bytemuck,
    wgpu,
};

use super::{SHARDS, cuts, one_of_each};
use crate::buffers::{Bench, Wanted};
use crate::cases::compare;
use crate::cases::inputs::Kind;
use crate::cases::{self, Case, TeacherList, Weights};
use crate::{adapter, report};

/// A case of the table that shards in buffers take: with bad labels, in place, in every storage type, with metrics.
fn for_buffers(mut case: Case) -> Option<Case> {
    let excluded = case.teacher_list != TeacherList::None
        || case.class_weights != Weights::None
        || case.config.standardization != Standardization::None;
    if excluded || case.rows == 0 {
        return None;
    }
    if !case.config.divergence.is_sampled() {
        case.teacher_classes = case.classes;
        case.config.teacher_classes = TeacherClasses::SameAsStudent;
    }
    Some(case)
}

#[test]
fn the_table_in_shards_on_buffers_equals_the_whole() {
    let Some(gpu) = adapter::gpu() else {
        return;
    };
    let mut count = 0;
    let others = cases::share(1, 30).into_iter().filter_map(for_buffers);
    for (n, case) in one_of_each().into_iter().chain(others).enumerate() {
        let cuts = cuts(case.classes, SHARDS[n % SHARDS.len()], n % 2 == 1);
        let bench = Bench::in_shards(gpu.clone(), cuts.clone());
        let about = || format!("{}: {} in {cuts:?}", bench.describe(), case.name);
        let got = bench
            .run(&case)
            .unwrap_or_else(|e| panic!("{}: {e}", about()));
        compare::check(&case, &case.reference(), &got)
            .unwrap_or_else(|e| panic!("{}: {e}", about()));
        count += 1;
    }
    report::ran(&format!("shards: GPU on buffers, {count} cases"));
}

/// Buffers of 3 rows: logits of 4 columns, labels and statistics.
struct Buffers {
    logits: wgpu::Buffer,
    labels: wgpu::Buffer,
    stats: wgpu::Buffer,
    device: wgpu::Device,
}

const ROWS: usize = 3;

impl Buffers {
    fn new(device: &wgpu::Device) -> Self {
        use wgpu::util::DeviceExt;
        let buffer = |contents: &[u8]| {
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            })
        };
        let logits: Vec<f32> = (0..1024u16).map(|i| f32::from(i % 5)).collect();
        Self {
            logits: buffer(bytemuck::cast_slice(&logits)),
            labels: buffer(bytemuck::cast_slice(&[5i32, 1, 6])),
            stats: buffer(&[0; 4096]),
            device: device.clone(),
        }
    }

    fn batch(&self) -> GpuBatch<'_> {
        let logits = GpuLogits::new(&self.logits, Storage::F32, 4);
        GpuBatch {
            rows: ROWS,
            student_logits: logits,
            teacher_logits: logits,
            teacher_ids: None,
            labels: at(&self.labels, 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
        }
    }
}

fn at(buffer: &wgpu::Buffer, offset: u64) -> GpuSlice<'_> {
    GpuSlice { buffer, offset }
}

/// Statistics that do not cover all classes make every row NaN and count it.
#[test]
fn missing_shards_are_counted() {
    let Some(gpu) = adapter::gpu() else {
        return;
    };
    let mut case = Case::of_shape(5, 24, Kind::Normal, [Storage::F32; 3]);
    let wanted = Wanted {
        gradient: false,
        ..Wanted::ALL
    };
    for (divergence, missing) in [
        (Divergence::ForwardKl, 0..7),
        (Divergence::Jsd { beta: 0.5 }, 20..24),
    ] {
        case.config.divergence = divergence;
        let all = [0..7, 7..20, 20..24];
        let cuts: Vec<_> = all.into_iter().filter(|c| *c != missing).collect();
        let outcome = Bench::in_shards(gpu.clone(), cuts).run_for(&case, wanted);
        let summary = outcome.expect("runs").0.summary;
        assert_eq!(summary.non_finite_rows as usize, case.rows);
        assert!(summary.loss.is_nan());
    }
}

#[test]
fn steps_refuse_what_shards_lack() {
    let Some(gpu) = adapter::gpu() else {
        return;
    };
    let buffers = Buffers::new(gpu.device());
    let slice = GpuShard {
        shard: Shard::new(4, 12),
        batch: buffers.batch(),
        outputs: GpuOutputs::default(),
    };
    let mut encoder = buffers.device.create_command_encoder(&Default::default());
    let config = Config::default();
    let mut observe = |config: &Config, slice: &GpuShard<'_>, stats| {
        let done = gpu.encode_observe_shard(&mut encoder, config, slice, stats, None);
        done.expect_err("refused")
    };
    let stats = at(&buffers.stats, 0);
    let (mut weighted, mut narrow, mut beyond) = (slice, slice, slice);
    weighted.batch.class_weights = Some(at(&buffers.labels, 0));
    narrow.batch.teacher_logits.classes = 3;
    beyond.shard.first_class = 9;
    let z = Config {
        standardization: Standardization::ZScore,
        ..config
    };
    for (config, slice, name) in [
        (config, weighted, "`class_weights`"),
        (
            config,
            narrow,
            "a teacher with 3 columns beside a student with 4",
        ),
        (z, slice, "`Standardization::ZScore`"),
    ] {
        let error = observe(&config, &slice, stats).to_string();
        assert!(error.contains(name), "{error}");
    }
    let range = Error::ShardRange {
        first_class: 9,
        own: 4,
        classes: 12,
    };
    assert_eq!(observe(&config, &beyond, stats), range);
    for (list, is_refused) in [
        (at(&buffers.stats, 128), "BufferMisaligned"),
        (at(&buffers.stats, 3584), "BufferTooSmall"),
        // The statistics would overwrite the logits.
        (at(&buffers.logits, 0), "BufferOverlap"),
    ] {
        let error = format!("{:?}", observe(&config, &slice, list));
        assert!(error.starts_with(is_refused), "{error}");
    }

    let gathered = |sweep_sums| GpuShardStats {
        shards: 2,
        row_stats: stats,
        sweep_sums,
    };
    let (none, sums) = (gathered(None), at(&buffers.stats, 2048));
    let swept = gpu.encode_sweep_shard(&mut encoder, &config, &slice, &none, sums, None);
    let error = swept.expect_err("one sweep").to_string();
    assert!(error.contains("one sweep"), "{error}");
    let twice = Config {
        divergence: Divergence::Jsd { beta: 0.5 },
        ..config
    };
    let mut apply = |config: &Config, gathered: &GpuShardStats<'_>| {
        let progress = Progress::new(1, 2);
        gpu.encode_apply_shard(&mut encoder, config, progress, &slice, gathered, None)
    };
    apply(&config, &none).expect("one sweep");
    apply(&twice, &gathered(Some(sums))).expect("two sweeps");
    assert_eq!(apply(&twice, &none), Err(Error::PlanMismatch));
    assert_eq!(
        apply(&config, &gathered(Some(sums))),
        Err(Error::PlanMismatch)
    );
    let empty = GpuShardStats { shards: 0, ..none };
    assert_eq!(apply(&config, &empty), Err(Error::PlanMismatch));
}
