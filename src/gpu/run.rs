//! The slices door: uploads, encodes, submits and reads back. Blocking on native targets, asynchronous everywhere.

use std::ops::Range;

use super::Gpu;
use super::encode::{GpuLogits, GpuOutputs, GpuSlice};
use super::memory::{Failures, PREPARING, output};
use super::pieces::{Uploaded, batch_pieces, longest, part};
use super::readback::Download;
use crate::plan::ROW_RESULT_BYTES;
use crate::{
    Batch, Config, Distillation, Error, Gradient, Outputs, Progress, Reduction, Result, RowResult,
    Scope, Storage, Summary, validate,
};

impl Gpu {
    /// The whole method on slices, without blocking. See [`Engine::run`](crate::Engine::run).
    pub async fn run_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        validate::new_run(config, progress, batch)?;
        if batch.rows() == 0 {
            // Of any number of classes: nothing has to fit the device.
            let empty = |storage| crate::cpu::zero_gradient(storage, 0);
            return Ok(Distillation {
                summary: Summary::default(),
                rows: Vec::new(),
                gradient: outputs.gradient.map(empty).transpose()?,
            });
        }
        let pieces = batch_pieces(batch, self.piece_bytes());
        // Before gigabytes are copied for nothing.
        self.check_piece(config, batch, longest(&pieces), outputs.gradient, false)?;
        if let [_] = pieces.as_slice() {
            return self.run_piece(config, progress, batch, outputs).await;
        }
        self.run_pieces(config, progress, batch, outputs, &pieces)
            .await
    }

    /// A batch larger than the device's buffers: what concerns all rows is settled first, then each piece is a batch.
    async fn run_pieces(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
        pieces: &[Range<usize>],
    ) -> Result<Distillation> {
        let mut config = *config;
        let valid = crate::batch::valid_rows(batch.labels, batch.classes(), config.ignore_index);
        if config.reduction == Reduction::Mean {
            config.reduction = Reduction::SumOver(valid.max(1) as f32);
        }
        if config.scope == Scope::Batch {
            let own = Config {
                scope: Scope::Row,
                ..config
            };
            let mut total = Totals::default();
            for range in pieces {
                let part = part(batch, range);
                total.add(
                    &self
                        .run_piece(&own, progress, &part, Outputs::SUMMARY)
                        .await?
                        .summary,
                );
            }
            config.scope = Scope::Given(total.summary().kdr.clamp(0.0, 1.0));
        }
        let mut total = Totals::default();
        let mut rows = Vec::new();
        let empty = |storage| crate::cpu::zero_gradient(storage, 0);
        let mut gradient = outputs.gradient.map(empty).transpose()?;
        for range in pieces {
            let part = part(batch, range);
            let piece = self.run_piece(&config, progress, &part, outputs).await?;
            total.add(&piece.summary);
            append(&mut rows, piece.rows)?;
            if let (Some(all), Some(own)) = (&mut gradient, piece.gradient) {
                append_gradient(all, own)?;
            }
        }
        Ok(Distillation {
            summary: total.summary(),
            rows,
            gradient,
        })
    }

    async fn run_piece(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        let failures = Failures::watch(&self.device);
        let sent = self.send(config, progress, batch, outputs);
        failures.check(PREPARING).await?;
        let (mut download, gradient_bytes) = sent?;
        let summary = download.next::<Summary>(1);
        let rows_bytes = if outputs.rows { batch.rows() } else { 0 };
        let rows = download.next::<RowResult>(rows_bytes);
        let gradient = outputs
            .gradient
            .map(|storage| (storage, download.next_bytes(gradient_bytes)));
        let data = download.wait(self).await?;
        let summary = data.items::<Summary>(&summary)?[0];
        check_counts(&summary, batch.rows())?;
        Ok(Distillation {
            summary,
            rows: data.items(&rows)?,
            gradient: match gradient {
                None => None,
                Some((Storage::F32, range)) => Some(Gradient::F32(data.items(&range)?)),
                Some((Storage::F16, range)) => Some(Gradient::F16(data.items(&range)?)),
                Some((Storage::Bf16, range)) => Some(Gradient::Bf16(data.items(&range)?)),
            },
        })
    }

    /// Everything up to the submission. Returns the download and the bytes of the gradient.
    fn send(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<(Download, usize)> {
        let (rows, classes) = (batch.rows(), batch.classes());
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let uploaded = Uploaded::new(self, &mut encoder, batch)?;
        let on_device = uploaded.batch(batch);
        let make = |label, bytes: usize| output(&self.device, label, bytes);
        let summary = make("summary", size_of::<Summary>())?;
        let row_bytes = if outputs.rows {
            rows * ROW_RESULT_BYTES as usize
        } else {
            0
        };
        let results = make("row_results", row_bytes)?;
        let gradient_bytes = outputs.gradient.map_or(0, |s| rows * classes * s.bytes());
        let gradient = make("grad_student_logits", gradient_bytes)?;
        let targets = GpuOutputs {
            summary: Some(GpuSlice {
                buffer: &summary,
                offset: 0,
            }),
            row_results: outputs.rows.then_some(GpuSlice {
                buffer: &results,
                offset: 0,
            }),
            gradient: outputs
                .gradient
                .map(|s| GpuLogits::new(&gradient, s, classes)),
        };
        self.encode(&mut encoder, config, progress, &on_device, &targets, None)?;
        let parts = [
            (&summary, size_of::<Summary>()),
            (&results, row_bytes),
            (&gradient, gradient_bytes),
        ];
        Ok((Download::submit(self, encoder, &parts)?, gradient_bytes))
    }
}

/// A summary that does not count every row is none of ours: where a command buffer fails on Metal, wgpu hears nothing of it, and what was never written is read.
fn check_counts(summary: &Summary, rows: usize) -> Result<()> {
    let counts = [
        summary.valid_rows,
        summary.ignored_rows,
        summary.invalid_labels,
    ];
    let counted: u64 = counts.map(u64::from).iter().sum();
    if counted == rows as u64 {
        return Ok(());
    }
    Err(Error::Gpu {
        doing: "a run",
        reason: format!("the summary counts {counted} of {rows} rows, so the work was not done"),
    })
}

/// What the summaries of pieces add up to. Losses are sums over one denominator, means are weighted by their rows.
#[derive(Default)]
pub(super) struct Totals {
    loss: f64,
    pub kdr: f64,
    tssr: f64,
    pub averaged: u32,
    counts: Summary,
}

impl Totals {
    /// Labels out of range do not reach this: on slices they are refused.
    fn add(&mut self, piece: &Summary) {
        let averaged = piece.valid_rows - piece.non_finite_rows;
        self.loss += f64::from(piece.loss);
        self.kdr += f64::from(piece.kdr) * f64::from(averaged);
        self.tssr += f64::from(piece.tssr) * f64::from(averaged);
        self.averaged += averaged;
        self.counts.valid_rows += piece.valid_rows;
        self.counts.ignored_rows += piece.ignored_rows;
        self.counts.invalid_labels += piece.invalid_labels;
        self.counts.non_finite_rows += piece.non_finite_rows;
    }

    pub fn summary(&self) -> Summary {
        let rows = f64::from(self.averaged.max(1));
        Summary {
            loss: self.loss as f32,
            kdr: (self.kdr / rows) as f32,
            tssr: (self.tssr / rows) as f32,
            ..self.counts
        }
    }
}

fn append<T>(all: &mut Vec<T>, mut piece: Vec<T>) -> Result<()> {
    let room = all.try_reserve(piece.len());
    room.map_err(|_| Error::no_room(size_of_val(piece.as_slice())))?;
    all.append(&mut piece);
    Ok(())
}

fn append_gradient(all: &mut Gradient, piece: Gradient) -> Result<()> {
    match (all, piece) {
        (Gradient::F32(all), Gradient::F32(piece)) => append(all, piece),
        (Gradient::F16(all), Gradient::F16(piece)) => append(all, piece),
        (Gradient::Bf16(all), Gradient::Bf16(piece)) => append(all, piece),
        _ => unreachable!("every piece has the storage that was asked for"),
    }
}
