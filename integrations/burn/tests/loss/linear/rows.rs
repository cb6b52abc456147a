//! Rows that do not count, losses of rows, and tensors without a gradient.

use burn::tensor::{DType, Int, Tensor};
use burn_distill::{
    CoreReduction, DistillationLossConfig, Error, LinearDistillationBatch, LinearDistillationLoss,
    LinearLogits, LinearTeacher, NonFinite,
};

use super::{CLASSES, HIDDEN, Kind, Problem, ROWS, devices, in_chunks, progress};
use crate::inputs::{difference, floats};

/// Padding by label, pad token and mask, with hidden states that are not finite, gives the loss of the other rows.
#[test]
fn padding_has_no_part_whatever_it_holds() {
    for on in devices() {
        let clean = Problem::new(&on, true);
        let config = DistillationLossConfig::new().with_pad_tokens(vec![7]);
        let loss = LinearDistillationLoss::from(on.loss(config.init()));
        // Label 7 is that of rows 1 and 38; the mask leaves out row 20; rows 3, 4 and 50 have the ignore_index.
        let mask = Tensor::<1, Int>::arange(0..ROWS as i64, &on.device).equal_scalar(20);
        let run = |states: Tensor<2>| {
            let states = Tensor::from_inner(states).require_grad();
            let student = LinearLogits {
                hidden_states: states.clone(),
                ..clean.student()
            };
            let teacher = LinearTeacher::Logits(clean.teacher_logits());
            let batch = LinearDistillationBatch::new(student, teacher, clean.labels.clone());
            let batch = batch.with_mask_pad(mask.clone());
            let loss = in_chunks(loss.clone(), &batch);
            let out = loss.forward_batch(batch, progress());
            let grads = out.loss.clone().backward();
            assert_eq!(out.ignored_rows.into_scalar::<i64>(), 6, "{}", on.name);
            let of_weights = floats(clean.weights.grad(&grads).expect("tracked"));
            let of_states = floats(states.grad(&grads).expect("tracked"));
            for row in [1, 3, 4, 20, 38, 50] {
                let own = &of_states[row * HIDDEN..][..HIDDEN];
                assert!(own.iter().all(|g| *g == 0.0), "row {row} on {}", on.name);
            }
            [floats(out.loss.inner()), of_weights, of_states].concat()
        };
        let states = clean.states.clone().inner();
        let want = run(states.clone());
        let mut broken = states;
        for (row, value) in [
            (1, f32::NAN),
            (3, f32::INFINITY),
            (20, f32::NAN),
            (50, f32::NEG_INFINITY),
        ] {
            broken = broken.slice_fill([row..row + 1, 0..HIDDEN], value);
        }
        assert_eq!(want, run(broken), "{}", on.name);
    }
}

/// A row with NaN is left out of loss and gradients, or makes the head's gradient NaN and its own.
#[test]
fn rows_that_are_not_finite() {
    for on in devices() {
        let clean = Problem::new(&on, false);
        let broken = clean
            .states
            .clone()
            .inner()
            .slice_fill([18..19, 2..3], f32::NAN);
        let run = |states: &Tensor<2>, labels: &Tensor<1, Int>, non_finite| {
            let states = Tensor::from_inner(states.clone()).require_grad();
            let config = DistillationLossConfig::new().with_non_finite(non_finite);
            let config = config.with_reduction(CoreReduction::SumOver(48.0));
            let student = LinearLogits::new(states.clone(), clean.weights.clone());
            let teacher = LinearTeacher::Logits(clean.teacher_logits());
            let batch = LinearDistillationBatch::new(student, teacher, labels.clone());
            let loss = in_chunks(on.loss(config.init()).into(), &batch);
            let out = loss.forward_batch(batch, progress());
            let grads = out.loss.clone().backward();
            let of_weights = floats(clean.weights.grad(&grads).expect("tracked"));
            let of_states = floats(states.grad(&grads).expect("tracked"));
            let counts = [out.non_finite_rows, out.ignored_rows];
            (
                floats(out.loss.inner()),
                of_weights,
                of_states,
                counts.map(|n| n.into_scalar::<i64>()),
            )
        };
        let without = clean.labels.clone().slice_fill(18..19, -100);
        let want = run(&clean.states.clone().inner(), &without, NonFinite::Skip);
        let got = run(&broken, &clean.labels, NonFinite::Skip);
        assert_eq!((want.3, got.3), ([0, 4], [1, 3]), "{}", on.name);
        for (want, got) in [(&want.0, &got.0), (&want.1, &got.1), (&want.2, &got.2)] {
            assert!(difference(want, got) < 1e-6, "{}", on.name);
        }
        let (loss, of_weights, of_states, counts) =
            run(&broken, &clean.labels, NonFinite::Propagate);
        assert_eq!(counts, [1, 3]);
        assert!(
            loss[0].is_nan() && of_weights.iter().all(|g| g.is_nan()),
            "{}",
            on.name
        );
        for (row, own) in of_states.chunks(HIDDEN).enumerate() {
            assert_eq!(
                own.iter().any(|g| g.is_nan()),
                row == 18,
                "row {row} on {}",
                on.name
            );
        }
    }
}

/// Without a reduction hidden states get gradients, and a head that is tracked is refused.
#[test]
fn losses_of_rows() {
    for on in devices() {
        let problem = Problem::new(&on, false);
        let config = DistillationLossConfig::new().with_reduction(CoreReduction::None);
        let plain = on.loss(config.init());
        let upstream = problem.row_weights.clone();
        let teacher = || LinearTeacher::Logits(problem.teacher_logits());
        let batch = |weights: Tensor<2>| {
            let student = LinearLogits::new(problem.states.clone(), weights);
            LinearDistillationBatch::new(student, teacher(), problem.labels.clone())
        };
        let fixed = batch(problem.weights.clone().inner());
        let loss = in_chunks(plain.clone().into(), &fixed);
        let finish = |loss: Tensor<1>| {
            assert_eq!(loss.dims(), [ROWS]);
            let grads = (loss.clone() * Tensor::from_inner(upstream.clone()))
                .sum()
                .backward();
            let of_states = floats(problem.states.grad(&grads).expect("tracked"));
            [floats(loss.inner()), of_states]
        };
        let got = finish(loss.forward_batch(fixed, progress()).loss);
        let out = plain.forward_batch(problem.plain_batch(Kind::Logits), progress());
        for (want, got) in finish(out.loss).iter().zip(&got) {
            assert!(difference(want, got) < 5e-6, "{}", on.name);
        }
        let error = loss.try_forward_batch(batch(problem.weights.clone()), progress());
        assert_eq!(error.err(), Some(Error::UnreducedHead), "{}", on.name);
    }
}

/// Each tensor gets a gradient only if it is tracked, and a batch without rows has the loss 0.
#[test]
fn untracked_tensors_and_no_rows() {
    for on in devices() {
        let problem = Problem::new(&on, false);
        let loss = LinearDistillationLoss::from(on.loss(DistillationLossConfig::new().init()));
        let run = |states: Tensor<2>, weights: Tensor<2>| {
            let teacher = LinearTeacher::Logits(problem.teacher_logits());
            let student = LinearLogits::new(states, weights);
            let batch = LinearDistillationBatch::new(student, teacher, problem.labels.clone());
            loss.forward_batch(batch, progress()).loss
        };
        let (states, weights) = (&problem.states, &problem.weights);
        let all = run(states.clone(), weights.clone());
        let grads = all.clone().backward();
        let want = floats(weights.grad(&grads).expect("tracked"));
        let only_weights = run(states.clone().inner(), weights.clone()).backward();
        assert!(states.grad(&only_weights).is_none());
        let got = floats(weights.grad(&only_weights).expect("tracked"));
        assert_eq!(want, got, "{}", on.name);
        let none = run(states.clone().inner(), weights.clone().inner());
        assert!(!none.is_tracked() && !none.is_autodiff());
        assert!(difference(&floats(all.inner()), &floats(none)) < 1e-6);

        let empty = |columns: usize| Tensor::<2>::zeros([0, columns], (&on.device, DType::F32));
        let student = LinearLogits::new(
            Tensor::from_inner(empty(HIDDEN)).require_grad(),
            weights.clone(),
        );
        let labels = Tensor::<1, Int>::zeros([0], (&on.device, DType::I32));
        let batch =
            LinearDistillationBatch::new(student, LinearTeacher::Logits(empty(CLASSES)), labels);
        let out = loss.forward_batch(batch, progress());
        let grads = out.loss.clone().backward();
        assert_eq!(floats(out.loss.inner()), [0.0]);
        let of_weights = floats(weights.grad(&grads).expect("tracked"));
        assert!(of_weights.iter().all(|g| *g == 0.0), "{}", on.name);
    }
}
