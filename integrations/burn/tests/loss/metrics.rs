//! Metrics for Burn's learner: this crate's and Burn's own, with and without padding.

use burn::data::dataloader::Progress as Done;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn::train::ItemLazy;
use burn::train::metric::{
    AccuracyMetric, Adaptor, LossMetric, Metric, MetricMetadata, Numeric, PerplexityMetric,
    TopKAccuracyMetric,
};
use burn_distill::metrics::{
    AgreementMetric, DistillationInput, DistillationLossMetric, DistillationTrainOutput, KdrMetric,
    TssrMetric,
};
use burn_distill::{DistillationBatch, DistillationLossConfig, Progress};

use crate::devices;
use crate::inputs::{floats, labels, logits, tensor};

const CLASSES: usize = 19;

fn metadata() -> MetricMetadata {
    MetricMetadata {
        progress: Done::new(0, 1, None),
        iteration: None,
        lr: None,
    }
}

fn close(metric: &dyn Numeric, want: f64) {
    let got = metric.running_value().expect("updated").current();
    assert!(
        (got - want).abs() < 1e-5 * want.max(1.0),
        "{got}, want {want}"
    );
}

#[test]
fn metrics_are_weighted_by_their_rows() {
    let device = Device::flex();
    // The composed path accepts labels out of range.
    let loss = DistillationLossConfig::new().init().composed();
    let (mut kdr, mut tssr, mut agreement) =
        (KdrMetric::new(), TssrMetric::new(), AgreementMetric::new());
    let (mut kdrs, mut tssrs, mut rows) = (0.0, 0.0, 0.0);
    let (mut agreed, mut all) = (0.0, 0.0);
    // Seed, rows, rows with NaN at the end.
    for (seed, n, nan) in [(1u64, 10usize, 0usize), (2, 30, 7), (3, 4, 0), (4, 8, 5)] {
        // The first 3 rows are ignored. Two batches have a label out of range, in the last batch in a row with NaN.
        let targets = labels(n, CLASSES, &device).slice_fill(0..3, -100);
        let targets = match seed {
            2 => targets.slice_fill(4..5, 999),
            4 => targets.slice_fill(n - 1..n, 999),
            _ => targets,
        };
        let (s, t) = (
            logits(seed, n, CLASSES, &device),
            logits(seed + 9, n, CLASSES, &device),
        );
        let with_nan = s.clone().slice_fill(n - nan..n, f32::NAN);
        let out = loss.forward_with_metrics(with_nan, t, targets.clone(), Progress::new(1, 2));
        let counts = |row: &usize| match seed {
            2 => (3..n - nan).contains(row) && *row != 4,
            _ => (3..n - nan).contains(row),
        };
        let sum = |of: &Tensor<1>| -> f32 {
            let of = floats(of.clone());
            (0..n).filter(counts).map(|row| of[row]).sum()
        };
        kdrs += sum(&out.row_kdr);
        tssrs += sum(&out.row_tssr);
        let counted = (0..n).filter(counts).count();
        assert_eq!(out.averaged_rows().into_scalar::<i64>(), counted as i64);
        rows += counted as f32;
        // The student disagrees in the rows whose logits are negated; the first 3 rows are no part of the metric.
        let half = s.clone().slice([0..n / 3, 0..CLASSES]).neg();
        let other = s.clone().slice_assign([0..n / 3, 0..CLASSES], half);
        agreed += (n - (n / 3).max(3)) as f32;
        all += (n - 3) as f32;
        let item = DistillationTrainOutput::new(out, s, other);
        let item = item.sync().expect("the device works");
        let input: DistillationInput = item.adapt();
        for entry in [
            kdr.update(&input, &metadata()),
            tssr.update(&input, &metadata()),
            agreement.update(&input, &metadata()),
        ] {
            entry.expect("readable");
        }
    }
    close(&kdr, f64::from(kdrs / rows));
    close(&tssr, f64::from(tssrs / rows));
    close(&agreement, f64::from(100.0 * agreed / all));
    assert_eq!(kdr.name().as_str(), "KDR");
}

/// A batch of sequences for the metrics, and the same numbers by their definitions, in f64.
struct Sequences {
    logits: Vec<f32>,
    teacher: Vec<f32>,
    /// -100 and the pad token 0 are padding, and so is what the mask says.
    labels: Vec<i32>,
    mask: Vec<bool>,
}

impl Sequences {
    const BATCH: usize = 3;
    const LENGTH: usize = 5;

    fn new(seed: u64, padded: impl Fn(usize) -> bool) -> Self {
        let rows = Self::BATCH * Self::LENGTH;
        let of = |seed| floats(logits(seed, rows, CLASSES, &Device::flex()));
        let label = |row: usize| match (padded(row), row % 3) {
            (true, 0) => -100,
            (true, 1) => 0,
            (true, _) => 7,
            (false, _) => (1 + (row * 5 + seed as usize) % (CLASSES - 1)) as i32,
        };
        Self {
            logits: of(seed),
            teacher: of(seed + 50),
            labels: (0..rows).map(label).collect(),
            mask: (0..rows).map(|row| padded(row) && row % 3 == 2).collect(),
        }
    }

    fn item(&self, on: &devices::TestDevice) -> DistillationTrainOutput {
        let shape = [Self::BATCH, Self::LENGTH];
        let matrix = |values: &Vec<f32>| {
            let flat = tensor(values.clone(), [values.len()], &on.device);
            flat.reshape([Self::BATCH, Self::LENGTH, CLASSES])
        };
        let labels = TensorData::new(self.labels.clone(), shape);
        let labels = Tensor::<2, Int>::from_data(labels, (&on.device, DType::I32));
        let mask = Tensor::from_data(TensorData::new(self.mask.clone(), shape), &on.device);
        let config = DistillationLossConfig::new().with_pad_tokens(vec![0]);
        let loss = on.loss(config.init());
        let batch = DistillationBatch::new(matrix(&self.logits), matrix(&self.teacher), labels);
        let out = loss.forward_batch(batch.with_mask_pad(mask), Progress::new(1, 2));
        let item = DistillationTrainOutput::new(out, matrix(&self.logits), matrix(&self.teacher));
        item.sync().expect("the device works")
    }

    /// Row, label, log-probabilities and the order of the classes, of each row that is no padding.
    fn kept(&self) -> Vec<(usize, usize, Vec<f64>, Vec<usize>)> {
        let rows = (0..self.labels.len()).filter(|row| self.labels[*row] > 0 && !self.mask[*row]);
        let row = |row: usize| {
            let logits = &self.logits[row * CLASSES..(row + 1) * CLASSES];
            let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            let logs = logits.iter().map(|x| f64::from(*x) - sum.ln()).collect();
            let mut order: Vec<usize> = (0..CLASSES).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            (row, self.labels[row] as usize, logs, order)
        };
        rows.map(row).collect()
    }
}

/// Burn's metrics and this crate's see sequences as rows and leave padding out, whoever names it, without a pad token of their own.
#[test]
fn metrics_of_sequences_leave_padding_out() {
    for on in devices::all() {
        let batches = [
            Sequences::new(1, |row| row >= 9),
            Sequences::new(2, |_| false),
            // Padding alone.
            Sequences::new(3, |_| true),
            Sequences::new(4, |row| row % 2 == 0),
        ];
        let (mut accuracy, mut top) = (AccuracyMetric::new(), TopKAccuracyMetric::new(3));
        let (mut perplexity, mut loss) = (PerplexityMetric::new(), DistillationLossMetric::new());
        let (mut kdr, mut agreement) = (KdrMetric::new(), AgreementMetric::new());
        let (mut rows, mut right, mut among, mut same) = (0.0, 0.0, 0.0, 0.0);
        let (mut nll, mut losses, mut kdrs) = (0.0, 0.0, 0.0);
        for batch in &batches {
            let item = batch.item(&on);
            let of_rows = floats(item.distillation.row_loss.clone());
            let kdr_of_rows = floats(item.distillation.row_kdr.clone());
            for (row, label, logs, order) in batch.kept() {
                rows += 1.0;
                right += f64::from(order[0] == label);
                among += f64::from(order[..3].contains(&label));
                nll -= logs[label];
                losses += f64::from(of_rows[row]);
                kdrs += f64::from(kdr_of_rows[row]);
                let teacher = &batch.teacher[row * CLASSES..(row + 1) * CLASSES];
                let largest = (0..CLASSES).max_by(|a, b| teacher[*a].total_cmp(&teacher[*b]));
                same += f64::from(largest == Some(order[0]));
            }
            let input: DistillationInput = item.adapt();
            for entry in [
                accuracy.update(&item.adapt(), &metadata()),
                top.update(&item.adapt(), &metadata()),
                perplexity.update(&item.adapt(), &metadata()),
                loss.update(&input, &metadata()),
                kdr.update(&input, &metadata()),
                agreement.update(&input, &metadata()),
                LossMetric::new().update(&item.adapt(), &metadata()),
            ] {
                entry.expect("readable");
            }
        }
        assert_eq!(rows, 31.0);
        assert!(right > 0.0 && among > right && same > 0.0 && same < rows);
        close(&accuracy, 100.0 * right / rows);
        close(&top, 100.0 * among / rows);
        close(&perplexity, (nll / rows).exp());
        close(&loss, losses / rows);
        close(&kdr, kdrs / rows);
        close(&agreement, 100.0 * same / rows);
    }
}

/// NaN shows in the loss. A mean of losses is weighted by the rows that count, not by batches.
#[test]
fn the_metric_of_the_loss_shows_nan() {
    let device = Device::flex();
    let loss = DistillationLossConfig::new().init();
    let student = logits(1, 4, CLASSES, &device).slice_fill(1..2, f32::NAN);
    let teacher = logits(2, 4, CLASSES, &device);
    let out = loss.forward_with_metrics(
        student.clone(),
        teacher.clone(),
        labels(4, CLASSES, &device),
        Progress::new(1, 2),
    );
    let item = DistillationTrainOutput::new(out, student, teacher);
    let mut metric = DistillationLossMetric::new();
    let input: DistillationInput = item.adapt();
    metric.update(&input, &metadata()).expect("readable");
    assert!(metric.value().expect("updated").current().is_nan());
}
