//! Bad input gives an error with a remedy, never a wrong number.

use candle_core::{DType, Result, Tensor};
use candle_distill::wgpu_distill::GradWrite;
use candle_distill::{Config, DistillationBatch, DistillationLoss, Progress, Selection};

use crate::inputs::{CPU, logits};

fn refusal(batch: &DistillationBatch<'_>) -> String {
    let loss = DistillationLoss::new(Config::default()).expect("the default is valid");
    let done = loss.forward_batch(batch, Progress::new(0, 1));
    done.expect_err("it is refused").to_string()
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

fn tensors() -> Result<[Tensor; 3]> {
    Ok([
        logits(1, &[4, 5], DType::F32)?,
        logits(2, &[4, 5], DType::F32)?,
        Tensor::zeros(4, DType::U32, CPU)?,
    ])
}

#[test]
fn shapes() -> Result<()> {
    let [s, t, l] = tensors()?;
    let of = |s: &Tensor, t: &Tensor, l: &Tensor| refusal(&DistillationBatch::new(s, t, l));
    assert_says(
        &of(&s, &t.narrow(0, 0, 3)?, &l),
        &["teacher_logits [3, 5]", "[4, 5]"],
    );
    assert_says(&of(&s, &t.reshape((2, 2, 5))?, &l), &["[2, 2, 5]"]);
    let fewer_classes = t.narrow(1, 0, 4)?;
    assert_says(&of(&s, &fewer_classes, &l), &["student has 5", "teacher 4"]);
    assert_says(
        &of(&s, &t, &l.narrow(0, 0, 3)?),
        &["labels has shape [3]", "[4]"],
    );
    assert_says(
        &of(&s, &t, &l.reshape((4, 1))?),
        &["labels has shape [4, 1]"],
    );
    let flat = s.flatten_all()?;
    assert_says(&of(&flat, &flat, &l), &["[rows, classes]", "[20]"]);
    // The same number of rows in another order.
    let (s, t) = (s.reshape((2, 2, 5))?, t.reshape((2, 2, 5))?);
    assert_says(&of(&s, &t, &l), &["labels has shape [4]", "[2, 2]"]);
    let batch = DistillationBatch::new(&s, &t, &l);
    let (labels, weights) = (l.reshape((2, 2))?, Tensor::ones(4, DType::F32, CPU)?);
    let batch = DistillationBatch {
        labels: &labels,
        ..batch
    };
    let weighted = refusal(&batch.with_row_weights(&weights));
    assert_says(&weighted, &["row_weights has shape [4]", "[2, 2]"]);
    let per_class = Tensor::ones(5, DType::F32, CPU)?;
    let soft = refusal(&batch.with_soft_labels(&per_class));
    assert_says(&soft, &["soft_labels has shape [5]", "[2, 2, 5]"]);
    let weighted = refusal(&batch.with_class_weights(&weights));
    assert_says(&weighted, &["class_weights has shape [4]", "[5]"]);
    let ids = Tensor::zeros((2, 2, 3), DType::I64, CPU)?;
    let list = DistillationBatch::top_k(&s, &t, &ids, &labels);
    assert_says(
        &refusal(&list),
        &["teacher_ids has shape [2, 2, 3]", "[2, 2, 5]"],
    );
    let none = Tensor::zeros((4, 0), DType::F32, CPU)?;
    assert_says(&of(&none, &none, &l), &["0 classes"]);
    Ok(())
}

#[test]
fn types() -> Result<()> {
    let [s, t, l] = tensors()?;
    let of = |s: &Tensor, t: &Tensor, l: &Tensor| refusal(&DistillationBatch::new(s, t, l));
    let f64s = s.to_dtype(DType::F64)?;
    let remedy = "to_dtype(DType::F32)";
    assert_says(&of(&f64s, &t, &l), &["`student_logits` is F64", remedy]);
    assert_says(&of(&s, &f64s, &l), &["`teacher_logits` is F64", remedy]);
    let floats = l.to_dtype(DType::F32)?;
    assert_says(&of(&s, &t, &floats), &["`labels` is F32", "I64"]);
    let weighted = DistillationBatch::new(&s, &t, &l).with_row_weights(&l);
    assert_says(&refusal(&weighted), &["`row_weights` is U32"]);
    let list = DistillationBatch::top_k(&s, &t, &t, &l);
    assert_says(&refusal(&list), &["`teacher_ids` is F32"]);
    let ones = Tensor::ones((4, 5), DType::U8, CPU)?;
    let soft = DistillationBatch::new(&s, &t, &l).with_soft_labels(&ones);
    assert_says(&refusal(&soft), &["`soft_labels` is U8"]);
    Ok(())
}

/// The error has the row and the number as it was given, also where it does not fit into 32 bits.
#[test]
fn labels_out_of_range() -> Result<()> {
    let [s, t, _] = tensors()?;
    let of = |labels: Tensor| refusal(&DistillationBatch::new(&s, &t, &labels));
    for label in [5, -1, -101, 1 << 32, -(1 << 40), i64::MAX] {
        let error = of(Tensor::new(&[0i64, -100, 1, label], CPU)?);
        assert_says(&error, &[&format!("label {label} in row 3"), "0..5"]);
    }
    // -100 as u32.
    let error = of(Tensor::new(&[0, 0, 4_294_967_196u32, 0], CPU)?);
    assert_says(&error, &["label 4294967196 in row 2"]);
    let error = of(Tensor::new(&[0u8, 200, 0, 0], CPU)?);
    assert_says(&error, &["label 200 in row 1"]);
    Ok(())
}

#[test]
fn lists_and_weights_out_of_range() -> Result<()> {
    let [s, _, l] = tensors()?;
    let log_probabilities = Tensor::full(-2f32, (4, 2), CPU)?;
    for id in [5, -2, 1 << 33] {
        let ids = Tensor::new(&[[0i64, 1], [1, 2], [3, id], [0, 1]], CPU)?;
        let list = DistillationBatch::top_k(&s, &log_probabilities, &ids, &l);
        assert_says(&refusal(&list), &[&format!("of row 2 has {id}")]);
    }
    let weights = Tensor::new(&[1f32, 1.0, f32::INFINITY, 1.0], CPU)?;
    let weighted = DistillationBatch::new(&s, &s, &l).with_row_weights(&weights);
    assert_says(&refusal(&weighted), &["row 2", "inf"]);
    let mut numbers = vec![0.5f32; 20];
    numbers[7] = -1.0;
    let soft_labels = Tensor::from_vec(numbers, (4, 5), CPU)?;
    let soft = DistillationBatch::new(&s, &s, &l).with_soft_labels(&soft_labels);
    assert_says(&refusal(&soft), &["row 1", "-1"]);
    let weights = Tensor::new(&[1f32, 1.0, f32::NAN, 1.0, 1.0], CPU)?;
    let weighted = DistillationBatch::new(&s, &s, &l).with_class_weights(&weights);
    assert_says(&refusal(&weighted), &["NaN"]);
    Ok(())
}

#[test]
fn configurations() {
    let base = Config::default;
    let of = |config| {
        let error = DistillationLoss::new(config).expect_err("it is refused");
        error.to_string()
    };
    let config = Config {
        grad_loss: 2.0,
        ..base()
    };
    assert_says(&of(config), &["`grad_loss` is 2", "multiply the loss"]);
    let config = Config {
        grad_write: GradWrite::Accumulate,
        ..base()
    };
    assert_says(&of(config), &["Accumulate"]);
    let config = Config {
        student_temperature: 0.0,
        ..base()
    };
    assert_says(&of(config), &["`student_temperature` is 0"]);
}

#[test]
fn progress() -> Result<()> {
    let [s, t, l] = tensors()?;
    let loss = DistillationLoss::new(Config::default())?;
    let error = loss.forward(&s, &t, &l, Progress::new(3, 2));
    assert_says(&error.expect_err("refused").to_string(), &["step 3 of 2"]);
    let error = loss.forward(&s, &t, &l, Progress::NONE);
    assert_says(&error.expect_err("refused").to_string(), &["training time"]);
    let fixed = Config {
        selection: Selection::Fixed(0.5),
        ..Config::default()
    };
    let fixed = DistillationLoss::new(fixed)?;
    assert!(fixed.forward(&s, &t, &l, Progress::NONE).is_ok());
    Ok(())
}
