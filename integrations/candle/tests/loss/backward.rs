//! The backward: upstream gradients, a model below the loss, several backwards, and what gets no gradient.

use candle_core::{DType, Result, Tensor};
use candle_distill::{Config, DistillationLoss, Progress, Reduction, Selection};

use crate::inputs::{CPU, assert_close, gradient, labels, logits, values, var};

const ROWS: usize = 7;
const CLASSES: usize = 13;

fn progress() -> Progress {
    Progress::new(1, 2)
}

#[test]
fn a_factor_of_the_loss_multiplies_the_gradient() -> Result<()> {
    let loss = DistillationLoss::new(Config::default())?;
    let student = var(&logits(1, &[ROWS, CLASSES], DType::F32)?)?;
    let teacher = logits(2, &[ROWS, CLASSES], DType::F32)?;
    let loss = loss.forward(&student, &teacher, &labels(ROWS, CLASSES)?, progress())?;
    let once = values(&gradient(&loss, &student)?)?;
    let thrice = values(&gradient(&(&loss * 3.0)?, &student)?)?;
    let expected: Vec<f64> = once.iter().map(|g| 3.0 * g).collect();
    assert_close(&thrice, &expected, 1e-6, "3 times the loss");
    // A second backward of the same graph, and the sum of two uses of one loss.
    assert_eq!(values(&gradient(&loss, &student)?)?, once);
    let squared = values(&gradient(&loss.sqr()?, &student)?)?;
    let factor = 2.0 * f64::from(loss.to_scalar::<f32>()?);
    let expected: Vec<f64> = once.iter().map(|g| factor * g).collect();
    assert_close(&squared, &expected, 1e-6, "the square of the loss");
    Ok(())
}

#[test]
fn upstream_gradients_of_rows_multiply_row_by_row() -> Result<()> {
    let config = Config {
        reduction: Reduction::None,
        ..Config::default()
    };
    let loss = DistillationLoss::new(config)?;
    let student = var(&logits(3, &[ROWS, CLASSES], DType::F32)?)?;
    let teacher = logits(4, &[ROWS, CLASSES], DType::F32)?;
    let loss = loss.forward(&student, &teacher, &labels(ROWS, CLASSES)?, progress())?;
    let once = values(&gradient(&loss.sum_all()?, &student)?)?;
    let factors: Vec<f32> = (0..ROWS).map(|row| row as f32 - 2.5).collect();
    let weighted = (&loss * Tensor::new(&factors[..], CPU)?)?.sum_all()?;
    let got = values(&gradient(&weighted, &student)?)?;
    let expected: Vec<f64> = once
        .iter()
        .enumerate()
        .map(|(i, g)| f64::from(factors[i / CLASSES]) * g)
        .collect();
    assert_close(&got, &expected, 1e-6, "factors of the rows");
    // The upstream gradient of one row of the loss is 0 for all others.
    let one = values(&gradient(&loss.get(1)?, &student)?)?;
    assert!(one[..CLASSES].iter().all(|g| *g == 0.0));
    assert_eq!(one[CLASSES..2 * CLASSES], once[CLASSES..2 * CLASSES]);
    assert!(one[2 * CLASSES..].iter().all(|g| *g == 0.0));
    Ok(())
}

/// The gradient of a mean over many rows is below the numbers of f16. The loss scale brings it back before it is rounded.
#[test]
fn a_loss_scale_keeps_small_gradients_of_f16() -> Result<()> {
    let loss = DistillationLoss::new(Config {
        reduction: Reduction::SumOver(1e9),
        selection: Selection::Fixed(0.5),
        ..Config::default()
    })?;
    let student = logits(5, &[ROWS, CLASSES], DType::F16)?;
    let teacher = logits(6, &[ROWS, CLASSES], DType::F16)?;
    let labels = labels(ROWS, CLASSES)?;
    let scale = 2f64.powi(24);
    let in_f32 = var(&student.to_dtype(DType::F32)?)?;
    let expected = gradient(
        &loss.forward(&in_f32, &teacher, &labels, progress())?,
        &in_f32,
    )?;
    let expected: Vec<f64> = values(&expected)?.iter().map(|g| g * scale).collect();
    let student = var(&student)?;
    let loss = loss.forward(&student, &teacher, &labels, progress())?;
    let unscaled = values(&gradient(&loss, &student)?)?;
    assert!(unscaled.iter().all(|g| *g == 0.0), "{unscaled:?}");
    let got = values(&gradient(&(loss * scale)?, &student)?)?;
    assert_close(&got, &expected, 2f64.powi(-11), "scaled");
    Ok(())
}

/// The gradient of a layer's weights is that of candle's own operations below the loss.
#[test]
fn through_a_linear_layer() -> Result<()> {
    let features = 5;
    let inputs = logits(7, &[ROWS, features], DType::F32)?;
    let weights = var(&logits(8, &[features, CLASSES], DType::F32)?)?;
    let bias = var(&logits(9, &[CLASSES], DType::F32)?)?;
    let teacher = logits(10, &[ROWS, CLASSES], DType::F32)?;
    let labels = labels(ROWS, CLASSES)?;
    let loss = DistillationLoss::new(Config::default())?;
    let student = inputs.matmul(&weights)?.broadcast_add(&bias)?;
    let grads = loss
        .forward(&student, &teacher, &labels, progress())?
        .backward()?;
    let leaf = var(&student)?;
    let of_logits = gradient(&loss.forward(&leaf, &teacher, &labels, progress())?, &leaf)?;
    let expected = inputs.t()?.matmul(&of_logits)?;
    let got = grads.get(&weights).expect("tracked");
    assert_close(&values(got)?, &values(&expected)?, 1e-6, "weights");
    let got = grads.get(&bias).expect("tracked");
    let expected = of_logits.sum(0)?;
    assert_close(&values(got)?, &values(&expected)?, 1e-6, "bias");
    // A step against the gradient lowers the loss.
    let before = loss.forward(&student, &teacher, &labels, progress())?;
    let moved = (weights.as_tensor() - (grads.get(&weights).expect("tracked") * 0.1)?)?;
    let student = inputs.matmul(&moved)?.broadcast_add(&bias)?;
    let after = loss.forward(&student, &teacher, &labels, progress())?;
    assert!(after.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
    Ok(())
}

#[test]
fn the_teacher_and_an_untracked_student_get_none() -> Result<()> {
    let loss = DistillationLoss::new(Config::default())?;
    let student = var(&logits(11, &[ROWS, CLASSES], DType::F32)?)?;
    let teacher = var(&logits(12, &[ROWS, CLASSES], DType::F32)?)?;
    let labels = labels(ROWS, CLASSES)?;
    let tracked = loss.forward(&student, &teacher, &labels, progress())?;
    let grads = tracked.backward()?;
    assert!(grads.get(&student).is_some());
    assert!(grads.get(&teacher).is_none());
    // Validation: the same loss without a graph.
    let plain = loss.forward(&student.detach(), &teacher, &labels, progress())?;
    assert!(!plain.track_op());
    assert_eq!(plain.to_scalar::<f32>()?, tracked.to_scalar::<f32>()?);
    Ok(())
}

#[test]
fn a_second_derivative_is_refused() -> Result<()> {
    let loss = DistillationLoss::new(Config::default())?;
    let student = var(&logits(13, &[ROWS, CLASSES], DType::F32)?)?;
    let teacher = logits(14, &[ROWS, CLASSES], DType::F32)?;
    let labels = labels(ROWS, CLASSES)?;
    let loss = loss.forward(&student, &teacher, &labels, progress())?;
    let gradient = gradient(&loss, &student)?;
    let penalty = gradient.sqr()?.sum_all()?;
    let error = penalty.backward().expect_err("it is refused").to_string();
    assert!(error.contains("no second derivative"), "{error}");
    // A detached gradient is a constant.
    let norm = (gradient.detach().sqr()?.sum_all()? + student.sum_all()?)?;
    assert!(norm.backward()?.get(&student).is_some());
    Ok(())
}
