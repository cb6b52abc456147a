//! Views: offsets, gaps between rows, transposed and broadcast tensors, two views of one storage.

use candle_core::{DType, Result, Tensor};
use candle_distill::{Config, DistillationBatch, DistillationLoss, Progress};

use crate::inputs::{assert_close, gradient, labels, logits, values, var};

const ROWS: usize = 6;
const CLASSES: usize = 11;

/// Loss and gradient of the variable from which `view` takes the student's logits, and those of a contiguous copy of the view.
fn compare(
    whole: &Tensor,
    teacher: &Tensor,
    view: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let loss = DistillationLoss::new(Config::default())?;
    let run = |whole: &Tensor, view: &dyn Fn(&Tensor) -> Result<Tensor>, teacher: &Tensor| {
        let whole = var(whole)?;
        let student = view(&whole)?;
        let labels = labels(student.elem_count() / CLASSES, CLASSES)?;
        let labels = labels.reshape(&student.dims()[..student.rank() - 1])?;
        let batch = DistillationBatch::new(&student, teacher, &labels);
        let out = loss.forward_batch(&batch, Progress::new(1, 2))?;
        let gradient = view(&gradient(&out.loss, &whole)?)?;
        Ok::<_, candle_core::Error>((out.loss.to_scalar::<f32>()?, values(&gradient)?))
    };
    let copy = view(whole)?.contiguous()?;
    let (expected, expected_gradient) = run(&copy, &|all| Ok(all.clone()), &teacher.contiguous()?)?;
    let (got, got_gradient) = run(whole, &view, teacher)?;
    assert_eq!(got, expected);
    assert_close(&got_gradient, &expected_gradient, 0.0, "gradient");
    Ok(())
}

#[test]
fn of_every_storage_type() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let teacher = logits(1, &[ROWS, CLASSES], dtype)?;
        // Columns, rows, both.
        let wide = logits(2, &[ROWS + 3, CLASSES + 4], dtype)?;
        compare(&wide, &teacher, |all| {
            all.narrow(1, 3, CLASSES)?.narrow(0, 2, ROWS)
        })?;
        let tall = logits(3, &[CLASSES, ROWS], dtype)?;
        compare(&tall, &teacher, |all| all.t())?;
    }
    Ok(())
}

#[test]
fn of_the_teacher() -> Result<()> {
    let student = logits(5, &[ROWS, CLASSES], DType::F32)?;
    let wide = logits(6, &[ROWS, CLASSES + 4], DType::F32)?;
    compare(
        &student,
        &wide.narrow(1, 2, CLASSES)?,
        |all| Ok(all.clone()),
    )?;
    let tall = logits(7, &[CLASSES, ROWS], DType::F32)?;
    compare(&student, &tall.t()?, |all| Ok(all.clone()))
}

/// The positions but the last of each sequence, as a language model shifts its labels.
#[test]
fn of_sequences() -> Result<()> {
    let all = logits(8, &[2, 4, CLASSES], DType::F32)?;
    let teacher = logits(9, &[2, 4, CLASSES], DType::F32)?;
    compare(&all, &teacher.narrow(1, 0, 3)?, |all| all.narrow(1, 0, 3))?;
    let teacher = logits(10, &[4, 2, CLASSES], DType::F32)?;
    compare(&all, &teacher, |all| all.transpose(0, 1))
}

/// One tensor has the logits of both models side by side.
#[test]
fn two_views_of_one_storage() -> Result<()> {
    let both = var(&logits(11, &[ROWS, 2 * CLASSES], DType::F32)?)?;
    let student = both.narrow(1, 0, CLASSES)?;
    let teacher = both.narrow(1, CLASSES, CLASSES)?;
    let loss = DistillationLoss::new(Config::default())?;
    let labels = labels(ROWS, CLASSES)?;
    let progress = Progress::new(1, 2);
    let got = loss.forward(&student, &teacher, &labels, progress)?;
    let copy = var(&student)?;
    let expected = loss.forward(&copy, &teacher.contiguous()?, &labels, progress)?;
    assert_eq!(got.to_scalar::<f32>()?, expected.to_scalar::<f32>()?);
    let gradient_of_both = gradient(&got, &both)?;
    let students = values(&gradient_of_both.narrow(1, 0, CLASSES)?)?;
    assert_close(
        &students,
        &values(&gradient(&expected, &copy)?)?,
        0.0,
        "student",
    );
    let teachers = values(&gradient_of_both.narrow(1, CLASSES, CLASSES)?)?;
    assert!(teachers.iter().all(|g| *g == 0.0), "{teachers:?}");
    Ok(())
}

/// One row of logits for all labels: its gradient is the sum over the rows.
#[test]
fn of_a_broadcast_row() -> Result<()> {
    let row = var(&logits(12, &[1, CLASSES], DType::F32)?)?;
    let teacher = logits(13, &[ROWS, CLASSES], DType::F32)?;
    let loss = DistillationLoss::new(Config::default())?;
    let (labels, progress) = (labels(ROWS, CLASSES)?, Progress::new(1, 2));
    let student = row.broadcast_as((ROWS, CLASSES))?;
    let got = loss.forward(&student, &teacher, &labels, progress)?;
    let copy = var(&student)?;
    let expected = loss.forward(&copy, &teacher, &labels, progress)?;
    assert_eq!(got.to_scalar::<f32>()?, expected.to_scalar::<f32>()?);
    let expected = values(&gradient(&expected, &copy)?.sum(0)?)?;
    assert_close(&values(&gradient(&got, &row)?)?, &expected, 1e-6, "the row");
    Ok(())
}
