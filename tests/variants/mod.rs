//! The shader variants under test.

use crate::cases::is_full;
use crate::problems::problem;
use wgpu_distill::plan::{Limits, Plan};
use wgpu_distill::shader::{
    Access, Dialect, Kernel, LossVariant, MAX_VECTORS_PER_LANE, Variant, assemble,
};
use wgpu_distill::{
    Config, Divergence, HardTemperature, MaskedClasses, Selection, Similarity, SmoothedClasses,
    Standardization, Storage, TeacherTail, TssrGradient,
};

/// A variant of the default loss.
pub fn base() -> Variant {
    Variant {
        student: Storage::F32,
        teacher: Storage::F32,
        gradient: Some(Storage::F32),
        access: Access::Vec4,
        loss: LossVariant::of(&Config::default()),
        accumulate: false,
        shared_buffers: false,
        in_place: false,
        soft_labels: None,
        row_weights: false,
        sharded: false,
        list_slots: 0,
        workgroup_size: 64,
        lanes: 64,
        vectors_per_lane: 2,
        one_tile: false,
        one_group: false,
        subgroup_min: None,
    }
}

/// Every divergence and similarity, with the choices that change sums or gradient.
fn losses() -> Vec<LossVariant> {
    let mut list = Vec::new();
    for divergence in Divergence::ALL {
        for similarity in Similarity::ALL {
            for (hard_temperature, label_smoothing) in [
                (HardTemperature::Student, 0.0),
                (HardTemperature::Own(1.0), 0.1),
            ] {
                list.push(LossVariant::of(&Config {
                    divergence,
                    similarity,
                    hard_temperature,
                    label_smoothing,
                    ..Config::default()
                }));
            }
        }
    }
    for (divergence, hard_temperature) in [
        (Divergence::SoftCrossEntropy, HardTemperature::Student),
        (Divergence::ForwardKl, HardTemperature::Own(1.0)),
    ] {
        let loss = LossVariant::of(&Config {
            divergence,
            hard_temperature,
            standardization: Standardization::ZScore,
            ..Config::default()
        });
        list.extend([loss, loss.with_metrics()]);
    }
    for similarity in [
        Similarity::Cosine,
        Similarity::Bhattacharyya,
        Similarity::ExpNegKl,
    ] {
        list.push(LossVariant::of(&Config {
            similarity,
            tssr_gradient: TssrGradient::Attached,
            ..Config::default()
        }));
    }
    for (divergence, hard_temperature) in [
        (Divergence::SoftCrossEntropy, HardTemperature::Student),
        (Divergence::ReverseKl, HardTemperature::Own(1.0)),
        (Divergence::Jsd { beta: 0.5 }, HardTemperature::Student),
    ] {
        let loss = LossVariant::of(&Config {
            divergence,
            hard_temperature,
            masked_classes: MaskedClasses::Both,
            ..Config::default()
        });
        list.extend([loss, loss.with_metrics()]);
    }
    for divergence in [Divergence::SoftCrossEntropy, Divergence::ReverseKl] {
        list.push(LossVariant::of(&Config {
            divergence,
            selection: Selection::Margin(0.2),
            label_smoothing: 0.1,
            smoothed_classes: SmoothedClasses::Unmasked,
            ..Config::default()
        }));
    }
    list
}

/// Teachers that are lists of classes.
fn lists() -> Vec<Variant> {
    let base = base();
    let mut list = Vec::new();
    for tail in [TeacherTail::Ghost, TeacherTail::Renormalized] {
        // The tail is one function, which knows no loss. A third of the losses has every divergence, similarity and part.
        let step = match tail {
            TeacherTail::Ghost => 3,
            _ => 30,
        };
        for loss in losses().into_iter().step_by(step) {
            if loss.sampled || loss.label_apart || loss.standardized || loss.teacher_label {
                continue;
            }
            for subgroup_min in [None, Some(4)] {
                list.push(Variant {
                    loss: loss.with_list(tail),
                    list_slots: 256,
                    subgroup_min,
                    one_tile: loss.smoothing,
                    one_group: subgroup_min.is_some(),
                    ..base
                });
            }
        }
        for access in [Access::Vec4, Access::Element] {
            for storage in Storage::ALL {
                for in_place in [false, true] {
                    list.push(Variant {
                        access,
                        student: storage,
                        teacher: storage,
                        gradient: Some(storage),
                        accumulate: !in_place,
                        in_place,
                        loss: base.loss.with_list(tail),
                        list_slots: 16,
                        lanes: 16,
                        ..base
                    });
                }
            }
        }
    }
    list
}

/// Slices of the classes, whose kernels merge what others observed.
fn shards() -> Vec<Variant> {
    let base = base();
    let mut list = Vec::new();
    for loss in losses().into_iter().step_by(7) {
        if !loss.standardized {
            for (subgroup_min, in_place) in [(None, false), (Some(4), true)] {
                list.push(Variant {
                    loss,
                    subgroup_min,
                    in_place,
                    shared_buffers: in_place,
                    sharded: true,
                    ..base
                });
            }
        }
    }
    for access in [Access::Vec4, Access::Element] {
        for storage in Storage::ALL {
            list.push(Variant {
                access,
                student: storage,
                teacher: storage,
                gradient: Some(storage),
                loss: base.loss.with_soft_labels().with_metrics(),
                soft_labels: Some(storage),
                row_weights: true,
                sharded: true,
                ..base
            });
        }
    }
    list
}

/// Every value of every choice, and all combinations of choices that meet in one function: storage types with access and accumulation,
/// reductions with lanes, similarities with smoothing.
fn variants() -> Vec<Variant> {
    let base = base();
    let mut list = Vec::new();
    for access in [Access::Vec4, Access::Element] {
        for student in Storage::ALL {
            for teacher in Storage::ALL {
                for gradient in [
                    None,
                    Some(Storage::F32),
                    Some(Storage::F16),
                    Some(Storage::Bf16),
                ] {
                    for accumulate in [false, true] {
                        list.push(Variant {
                            access,
                            student,
                            teacher,
                            gradient,
                            accumulate,
                            ..base
                        });
                    }
                }
            }
        }
    }
    for similarity in Similarity::ALL {
        for label_smoothing in [0.0, 0.1] {
            let loss = LossVariant::of(&Config {
                similarity,
                label_smoothing,
                ..Config::default()
            });
            for subgroup_min in [None, Some(4), Some(32)] {
                for (lanes, workgroup_size) in [
                    (1, 1),
                    (1, 128),
                    (4, 128),
                    (16, 16),
                    (256, 256),
                    (1024, 1024),
                ] {
                    let subgroup_fits = subgroup_min.is_none_or(|min| {
                        workgroup_size >= min && (lanes <= min || lanes == workgroup_size)
                    });
                    let memory_fits = subgroup_min.is_some() || workgroup_size < 1024;
                    if subgroup_fits && memory_fits {
                        list.push(Variant {
                            loss,
                            subgroup_min,
                            lanes,
                            workgroup_size,
                            ..base
                        });
                    }
                }
            }
        }
    }
    for (shared_buffers, in_place) in [(false, false), (true, false), (false, true)] {
        for loss in [base.loss, base.loss.with_metrics()] {
            for row_weights in [false, true] {
                list.push(Variant {
                    row_weights,
                    shared_buffers,
                    in_place,
                    loss,
                    ..base
                });
            }
        }
    }
    for divergence in [
        Divergence::ReverseKl,
        Divergence::ALL[12],
        Divergence::ALL[13],
        Divergence::Wsld,
        Divergence::K3 { clamp: 20.0 },
    ] {
        let loss = LossVariant::of(&Config {
            divergence,
            ..Config::default()
        });
        for (lanes, subgroup_min) in [(64, None), (1, None), (64, Some(4))] {
            list.push(Variant {
                loss: loss.with_metrics(),
                row_weights: true,
                lanes,
                subgroup_min,
                ..base
            });
        }
    }
    for access in [Access::Vec4, Access::Element] {
        for storage in Storage::ALL {
            for (divergence, hard_temperature) in [
                (Divergence::SoftCrossEntropy, HardTemperature::Student),
                (Divergence::Jsd { beta: 0.5 }, HardTemperature::Own(1.0)),
            ] {
                let loss = LossVariant::of(&Config {
                    divergence,
                    hard_temperature,
                    label_smoothing: 0.1,
                    ..Config::default()
                });
                list.push(Variant {
                    access,
                    loss: loss.with_soft_labels(),
                    soft_labels: Some(storage),
                    gradient: Some(storage),
                    one_tile: storage == Storage::F32,
                    subgroup_min: (storage == Storage::F16).then_some(4),
                    ..base
                });
            }
        }
    }
    for access in [Access::Vec4, Access::Element] {
        for vectors_per_lane in [1, 3, 8, MAX_VECTORS_PER_LANE] {
            list.push(Variant {
                access,
                vectors_per_lane,
                ..base
            });
        }
    }
    for access in [Access::Vec4, Access::Element] {
        for storage in Storage::ALL {
            for (shared_buffers, in_place) in [(true, false), (false, true), (true, true)] {
                for subgroup_min in [None, Some(4)] {
                    list.push(Variant {
                        access,
                        student: storage,
                        gradient: Some(storage),
                        shared_buffers,
                        in_place,
                        subgroup_min,
                        ..base
                    });
                }
            }
        }
    }
    // The teacher's number of a row in every storage type, beside rows of both widths.
    let tokens = LossVariant::of(&Config {
        divergence: Divergence::K3 { clamp: 20.0 },
        ..Config::default()
    });
    for access in [Access::Vec4, Access::Element] {
        for storage in Storage::ALL {
            list.push(Variant {
                access,
                student: storage,
                teacher: storage,
                gradient: Some(storage),
                loss: tokens,
                ..base
            });
        }
    }
    list.extend(lists());
    list.extend(shards());
    // The reduction and the tile meet no choice of the loss in one function, so the short run has each loss with one of them.
    let kinds = [
        (None, false),
        (Some(4), true),
        (None, true),
        (Some(4), false),
    ];
    for (n, loss) in losses().into_iter().enumerate() {
        for (subgroup_min, one_tile) in match is_full() {
            true => kinds.to_vec(),
            // Neighbours differ in the hard part.
            false => vec![kinds[(n / 2 + n) % kinds.len()]],
        } {
            list.push(Variant {
                loss,
                subgroup_min,
                one_tile,
                one_group: one_tile,
                ..base
            });
        }
    }
    list
}

/// The variants that plans choose for usual shapes on all kinds of devices.
fn planned() -> Vec<(Kernel, Variant)> {
    let classes = [10, 100, 300, 1000, 4096, 32_000, 50_257, 128_256];
    let subgroups = [
        None,
        Some((4, 4)),
        Some((8, 8)),
        Some((32, 32)),
        Some((32, 64)),
        Some((8, 32)),
        Some((4, 64)),
    ];
    let mut list = Vec::new();
    for classes in classes {
        for subgroup in subgroups {
            for (invocations, registers, software) in [
                (256, 32, false),
                (1024, 32, false),
                (1024, 64, false),
                (1024, 32, true),
            ] {
                let limits = Limits {
                    subgroup,
                    workgroup_invocations: invocations,
                    workgroup_bytes: 32 << 10,
                    registers,
                    software,
                    ..Limits::DEFAULT
                };
                for (rows, storage) in [
                    (2, Storage::F32),
                    (4096, Storage::F32),
                    (4096, Storage::Bf16),
                ] {
                    let problem = problem(rows, classes, storage);
                    for similarity in [Similarity::Cosine, Similarity::JensenShannon] {
                        let config = Config {
                            similarity,
                            ..Config::default()
                        };
                        let plan = Plan::new(&config, &problem, &limits);
                        let plan = plan.expect("the limits of devices");
                        list.extend(plan.kernels().iter().map(|&k| (k, plan.variant_of(k))));
                    }
                }
            }
        }
    }
    list
}

/// All distinct texts, with kernel and variant.
pub fn texts(dialect: Dialect) -> Vec<(Kernel, Variant, String)> {
    let mut seen = std::collections::HashSet::new();
    let mut list = Vec::new();
    let variants = variants();
    let all = Kernel::ALL
        .into_iter()
        .flat_map(|kernel| variants.iter().map(move |variant| (kernel, *variant)));
    for (kernel, variant) in all.chain(planned()) {
        let variant = kernel.canonical(&variant);
        if seen.insert((kernel, variant)) {
            list.push((kernel, variant, assemble(kernel, &variant, dialect)));
        }
    }
    list
}
