//! Values and gradients: losses, teachers, scopes, denominators, types.

use burn::nn::LinearConfig;
use burn::tensor::{DType, Tensor};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, Divergence, ExecutionPath,
    LinearDistillationBatch, LinearDistillationLoss, LinearLogits, LinearTeacher, Scope, Selection,
    Similarity, TeacherClasses, presets,
};
use wgpu_distill::{Batch, reference};

use super::{
    CLASSES, HIDDEN, Kind, Problem, ROWS, TEACHER_HIDDEN, both, compare, devices, in_chunks,
    progress,
};
use crate::inputs::{difference, floats, labels, tensor};

fn method() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_teacher_temperature(1.5)
        .with_selection(Selection::Mean)
}

/// Every loss of another shape, with bias, padding, row weights, an upstream factor, and chunks that do not divide the rows.
#[test]
fn losses_equal_those_of_logits() {
    let losses = [
        method(),
        method()
            .with_similarity(Similarity::JensenShannon)
            .with_label_smoothing(0.1)
            .with_reduction(CoreReduction::Sum),
        presets::hinton(2.0, 0.5).into(),
        DistillationLossConfig::from(presets::gkd(0.5)).with_z_loss(1e-3),
        DistillationLossConfig::from(presets::gkd(1.0)).with_grad_scale(1024.0),
        method()
            .with_divergence(Divergence::TotalVariation)
            .with_reduction(CoreReduction::SumOver(7.0)),
    ];
    for on in devices() {
        for (i, config) in losses.iter().enumerate() {
            let problem = Problem::new(&on, i % 2 == 0);
            let outcomes = both(&on, config, &problem, Kind::Head);
            compare(&outcomes, 5e-6, &format!("loss {i} on {}", on.name));
        }
    }
}

/// A product in f64 of `[rows, inner]` and, transposed, `[columns, inner]`, plus one number for each column.
fn product(a: &[f32], b: &[f32], inner: usize, bias: &[f32]) -> Vec<f32> {
    let number = |row: &[f32], column: &[f32], bias: f32| {
        let terms = row
            .iter()
            .zip(column)
            .map(|(a, b)| f64::from(*a) * f64::from(*b));
        (terms.sum::<f64>() + f64::from(bias)) as f32
    };
    let rows = a.chunks(inner);
    rows.flat_map(|row| {
        let columns = b.chunks(inner).zip(bias);
        columns.map(move |(column, bias)| number(row, column, *bias))
    })
    .collect()
}

/// Logits and products in f64 on the host, the loss and its gradient by the reference.
#[test]
fn the_reference_in_f64() {
    for on in devices() {
        let problem = Problem::new(&on, true);
        let [states, weights, teacher_states, teacher_weights] = [
            &problem.states,
            &problem.weights,
            &problem.teacher_states,
            &problem.teacher_weights,
        ]
        .map(|t| floats(t.clone().inner()));
        let bias = problem.bias.clone().map(|bias| floats(bias.inner()));
        let bias = bias.expect("the problem has one");
        let student = product(&states, &weights, HIDDEN, &bias);
        let teacher = product(
            &teacher_states,
            &teacher_weights,
            TEACHER_HIDDEN,
            &[0.0; CLASSES],
        );
        let labels: Vec<i32> = problem.labels.to_data().iter().collect();
        let config = method();
        let batch = Batch::new(&student, &teacher, &labels, CLASSES);
        let want = reference::distill(&config.core, progress(), &batch).expect("a valid batch");
        let mut sums = [
            vec![0.0; ROWS * HIDDEN],
            vec![0.0; CLASSES * HIDDEN],
            vec![0.0; CLASSES],
        ];
        for (i, own) in want.grad_student_logits.iter().enumerate() {
            let (row, class) = (i / CLASSES, i % CLASSES);
            for j in 0..HIDDEN {
                sums[0][row * HIDDEN + j] += own * f64::from(weights[class * HIDDEN + j]);
                sums[1][class * HIDDEN + j] += own * f64::from(states[row * HIDDEN + j]);
            }
            sums[2][class] += own;
        }
        let batch = LinearDistillationBatch::new(
            problem.student(),
            LinearLogits::new(
                problem.teacher_states.clone(),
                problem.teacher_weights.clone(),
            ),
            problem.labels.clone(),
        );
        let loss = in_chunks(on.loss(config.init()).into(), &batch);
        let got = problem.outcome(loss.forward_batch(batch, progress()), 1.0);
        let summary = [want.summary.loss, want.summary.kdr, want.summary.tssr];
        let values = summary.map(|x| x as f32);
        let narrow = |sums: &Vec<f64>| -> Vec<f32> { sums.iter().map(|x| *x as f32).collect() };
        for (name, want, got) in [
            ("means", values.to_vec(), &got.values[..3]),
            (
                "gradient of hidden states",
                narrow(&sums[0]),
                &got.states[..],
            ),
            ("gradient of weights", narrow(&sums[1]), &got.weights[..]),
            ("gradient of bias", narrow(&sums[2]), &got.bias[..]),
        ] {
            let apart = difference(&want, got);
            assert!(apart < 1e-5, "{name} on {}: {apart:e}", on.name);
        }
    }
}

/// The kernels that Burn launches, and Burn's operations on wgpu.
#[test]
fn other_paths_of_wgpu() {
    let all = crate::devices::all().into_iter();
    for on in all.filter(|on| ["source", "shared, composed"].contains(&on.name)) {
        let problem = Problem::new(&on, true);
        let outcomes = both(&on, &method(), &problem, Kind::Head);
        compare(&outcomes, 5e-6, on.name);
    }
}

#[test]
fn teachers_as_heads_logits_chunks_and_lists() {
    for on in devices() {
        let problem = Problem::new(&on, true);
        for kind in [Kind::Logits, Kind::Chunks, Kind::TopK, Kind::Sampled] {
            let kernels = matches!(kind, Kind::TopK | Kind::Sampled);
            if kernels && on.path == ExecutionPath::Composed {
                continue;
            }
            let config = match kind {
                Kind::Sampled => presets::low_var_kl().into(),
                // The rest of a list's probability has no other temperature.
                Kind::TopK => method().with_teacher_temperature(1.0),
                _ => method().with_divergence(Divergence::ForwardKl),
            };
            let outcomes = both(&on, &config, &problem, kind);
            compare(&outcomes, 5e-6, &format!("{kind:?} on {}", on.name));
        }
    }
}

/// A teacher with more classes and one with fewer, of which only the shared ones count.
#[test]
fn a_teacher_with_other_classes() {
    for on in devices() {
        let problem = Problem::new(&on, false);
        let config = method().with_teacher_classes(TeacherClasses::CommonPrefix);
        for classes in [CLASSES + 4, CLASSES - 9] {
            let weights = tensor(
                crate::inputs::Random(9).values(classes * 11, 0.9),
                [classes, 11],
                &on.device,
            );
            let states = problem.teacher_states.clone();
            let logits = states.clone().matmul(weights.clone().transpose());
            let teacher =
                LinearLogits::new(states, weights).with_bias(Tensor::ones([classes], &on.device));
            let labels = problem.labels.clone();
            let plain = on.loss(config.init());
            let batch = LinearDistillationBatch::new(problem.student(), teacher, labels.clone());
            let loss = in_chunks(plain.clone().into(), &batch);
            let got = loss.forward_batch(batch, progress());
            let batch = DistillationBatch::new(problem.student_logits(), logits + 1.0, labels);
            let want = plain.forward_batch(batch, progress());
            let outcomes = [want, got].map(|out| problem.outcome(out, 1.0));
            compare(
                &outcomes,
                5e-6,
                &format!("{classes} classes on {}", on.name),
            );
        }
    }
}

/// The mean KDR comes from a pass of its own, unless one chunk has all rows or no selection needs it.
#[test]
fn scopes() {
    for on in devices() {
        let problem = Problem::new(&on, true);
        let batch = method().with_scope(Scope::Batch);
        for (name, config) in [
            ("given", method().with_scope(Scope::Given(0.4))),
            (
                "batch, fixed share",
                batch.clone().with_selection(Selection::Fixed(0.3)),
            ),
            ("batch", batch.clone()),
        ] {
            let outcomes = both(&on, &config, &problem, Kind::Chunks);
            compare(&outcomes, 5e-6, &format!("{name} on {}", on.name));
            let rows = both(&on, &config.with_scope(Scope::Row), &problem, Kind::Chunks);
            let apart = difference(&outcomes[0].states, &rows[0].states);
            assert_eq!(
                apart > 1e-3,
                name != "batch, fixed share",
                "{name}: {apart}"
            );
        }
        // All rows in one chunk.
        let teacher = LinearTeacher::Logits(problem.teacher_logits());
        let whole =
            LinearDistillationBatch::new(problem.student(), teacher, problem.labels.clone());
        let loss = LinearDistillationLoss::from(on.loss(batch.init()));
        assert_eq!(loss.chunk_rows(&whole), ROWS);
        let got = loss.forward_batch(whole, progress());
        let plain = on.loss(batch.init());
        let want = plain.forward_batch(problem.plain_batch(Kind::Logits), progress());
        let outcomes = [want, got].map(|out| problem.outcome(out, 1.0));
        compare(&outcomes, 5e-6, &format!("one chunk on {}", on.name));
    }
}

/// Micro-batches with the denominator of their batch, as a number, a tensor and a count.
#[test]
fn denominators() {
    for on in devices() {
        let problem = Problem::new(&on, false);
        let plain = on.loss(method().init());
        let count = plain.labelled_rows(problem.labels.clone());
        assert_eq!(count.clone().into_scalar::<i64>(), 49);
        let teacher = || LinearTeacher::Logits(problem.teacher_logits());
        let whole =
            || LinearDistillationBatch::new(problem.student(), teacher(), problem.labels.clone());
        let loss = in_chunks(plain.clone().into(), &whole());
        let mean = problem.outcome(loss.forward_batch(whole(), progress()), 1.0);
        let number = tensor(vec![49.0], [1], &on.device);
        for batch in [
            whole().with_denominator(49.0),
            whole().with_denominator(number),
            whole().with_denominator(count),
        ] {
            let own = problem.outcome(loss.forward_batch(batch, progress()), 1.0);
            assert!(difference(&mean.values, &own.values) < 1e-6, "{}", on.name);
            assert!(
                difference(&mean.weights, &own.weights) < 1e-6,
                "{}",
                on.name
            );
        }
    }
}

/// Sequences, a layer of Burn with its own orientation of the weights, and two losses in one graph.
#[test]
fn a_layer_of_burn_and_sequences() {
    for on in devices() {
        let device = on.device.clone().autodiff();
        let layer = LinearConfig::new(HIDDEN, CLASSES).init(&device);
        let problem = Problem::new(&on, false);
        let targets = labels(ROWS, CLASSES, &on.device).reshape([4, 13]);
        let states = || problem.states.clone().reshape([4, 13, HIDDEN]);
        let teacher = || problem.teacher_logits().reshape([4, 13, CLASSES]);
        let plain = on.loss(method().init());
        let run = |linear: bool| {
            let loss = |targets| match linear {
                true => {
                    let student = LinearLogits::of(states(), &layer);
                    let teacher = LinearTeacher::Logits(teacher());
                    let batch = LinearDistillationBatch::new(student, teacher, targets);
                    let loss = LinearDistillationLoss::from(plain.clone());
                    loss.with_memory_budget(4096)
                        .forward_batch(batch, progress())
                        .loss
                }
                false => plain.forward(layer.forward(states()), teacher(), targets, progress()),
            };
            let (one, two) = (loss(targets.clone()), loss(targets.clone().flip([1])));
            let sum = one * 3.0 + two;
            let grads = sum.clone().backward();
            let bias = layer.bias.as_ref().and_then(|bias| bias.val().grad(&grads));
            let weight = layer.weight.val().grad(&grads).expect("tracked");
            assert_eq!(weight.dims(), [HIDDEN, CLASSES]);
            let all = [
                floats(sum.inner()),
                floats(weight),
                floats(bias.expect("tracked")),
                floats(problem.states.grad(&grads).expect("tracked")),
            ];
            all.concat()
        };
        let apart = difference(&run(false), &run(true));
        assert!(apart < 5e-6, "{}: {apart:e}", on.name);
    }
}

/// Half floats: the logits are rounded as in the plain way, and the gradients once.
#[test]
fn sixteen_bits() {
    for on in devices() {
        for dtype in [DType::F16, DType::BF16] {
            if !on.device.supports_dtype(dtype) {
                continue;
            }
            let problem = Problem::of_type(&on, true, dtype);
            // The loss of logits in f32, of the same numbers.
            let wide = |t: &Tensor<2>| {
                Tensor::from_inner(t.clone().inner().cast(DType::F32)).require_grad()
            };
            let exact = Problem {
                states: wide(&problem.states),
                weights: wide(&problem.weights),
                bias: problem.bias.as_ref().map(|bias| {
                    Tensor::from_inner(bias.clone().inner().cast(DType::F32)).require_grad()
                }),
                teacher_states: problem.teacher_states.clone().cast(DType::F32),
                teacher_weights: problem.teacher_weights.clone().cast(DType::F32),
                labels: problem.labels.clone(),
                row_weights: problem.row_weights.clone(),
            };
            let [_, got] = both(&on, &method(), &problem, Kind::Head);
            let [want, _] = both(&on, &method(), &exact, Kind::Head);
            let tolerance = match dtype {
                DType::F16 => 4e-3,
                _ => 3e-2,
            };
            compare(
                &[want, got],
                tolerance,
                &format!("{dtype:?} on {}", on.name),
            );
        }
    }
}

#[test]
fn metrics_of_rows_are_joined() {
    for on in devices() {
        let problem = Problem::new(&on, true);
        let plain = on.loss(method().init()).with_row_metrics();
        let teacher = LinearTeacher::Logits(problem.teacher_logits());
        let batch =
            LinearDistillationBatch::new(problem.student(), teacher, problem.labels.clone());
        let loss = in_chunks(plain.clone().into(), &batch);
        let got = loss.forward_batch(batch, progress());
        let want = plain.forward_batch(problem.plain_batch(Kind::Logits), progress());
        assert_eq!(got.averaged_rows().into_scalar::<i64>(), 49);
        let numbers = |out: burn_distill::DistillationOutput| {
            let [rows, means] = [out.row_metrics, out.mean_metrics].map(|m| m.expect("requested"));
            let all = [rows, means].map(|m| {
                [
                    floats(m.forward_kl()),
                    floats(m.student_entropy()),
                    floats(m.hard()),
                    floats(m.teacher_lse()),
                    floats(m.agreement()),
                ]
                .concat()
            });
            all.concat()
        };
        let apart = difference(&numbers(want), &numbers(got));
        assert!(apart < 5e-6, "{}: {apart:e}", on.name);
    }
}
