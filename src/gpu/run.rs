//! The slices door: uploads, encodes, submits and reads back. Blocking on native targets, asynchronous everywhere.

use std::ops::Range;

use super::Gpu;
use super::encode::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use super::memory::{Failures, PREPARING, output, upload};
use super::readback::Download;
use crate::plan::ROW_RESULT_BYTES;
use crate::{
    Batch, Config, Distillation, Gradient, Logits, Outputs, Progress, Reduction, Result, RowResult,
    Scope, Storage, Summary, Values, validate,
};

/// Rows `range` of a matrix, in the memory of the host.
pub(super) fn rows_of<'a>(logits: &Logits<'a>, range: &Range<usize>) -> &'a [u8] {
    if range.is_empty() {
        return &[];
    }
    let bytes = logits.values.storage().bytes();
    let start = range.start * logits.row_stride;
    let end = (range.end - 1) * logits.row_stride + logits.classes;
    &logits.values.as_bytes()[start * bytes..end * bytes]
}

pub(super) fn part<'a>(batch: &Batch<'a>, range: &Range<usize>) -> Batch<'a> {
    let cut = |logits: &Logits<'a>| {
        let start = (range.start * logits.row_stride).min(logits.values.len());
        let values = match logits.values {
            Values::F32(v) => Values::F32(&v[start..]),
            Values::F16(v) => Values::F16(&v[start..]),
            Values::Bf16(v) => Values::Bf16(&v[start..]),
        };
        Logits { values, ..*logits }
    };
    Batch {
        student_logits: cut(&batch.student_logits),
        teacher_logits: cut(&batch.teacher_logits),
        labels: &batch.labels[range.clone()],
    }
}

/// A batch on the device.
pub(super) struct Uploaded {
    student: wgpu::Buffer,
    teacher: wgpu::Buffer,
    labels: wgpu::Buffer,
}

impl Uploaded {
    pub fn new(gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, batch: &Batch<'_>) -> Result<Self> {
        let all = 0..batch.rows();
        let mut make = |name, bytes| {
            let usage = wgpu::BufferUsages::STORAGE;
            upload(&gpu.device, encoder, name, bytes, usage)
        };
        Ok(Self {
            student: make("student_logits", rows_of(&batch.student_logits, &all))?,
            teacher: make("teacher_logits", rows_of(&batch.teacher_logits, &all))?,
            labels: make("labels", bytemuck::cast_slice(batch.labels))?,
        })
    }

    pub fn batch<'a>(&'a self, batch: &Batch<'_>) -> GpuBatch<'a> {
        let on = |buffer: &'a wgpu::Buffer, logits: &Logits<'_>| GpuLogits {
            buffer,
            offset: 0,
            storage: logits.values.storage(),
            classes: logits.classes,
            row_stride: logits.row_stride,
        };
        GpuBatch {
            rows: batch.rows(),
            student_logits: on(&self.student, &batch.student_logits),
            teacher_logits: on(&self.teacher, &batch.teacher_logits),
            labels: GpuSlice {
                buffer: &self.labels,
                offset: 0,
            },
        }
    }
}

impl Gpu {
    /// Bytes of the largest buffer that a slice is uploaded to.
    fn piece_bytes(&self) -> u64 {
        self.device.limits().max_buffer_size.min(1 << 31) / 2
    }

    /// The whole method on slices, without blocking. See [`Engine::run`](crate::Engine::run).
    pub async fn run_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        validate::batch(config, batch)?;
        validate::progress(progress)?;
        let pieces = batch_pieces(batch, self.piece_bytes());
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
        let mut gradient = outputs
            .gradient
            .map(|storage| crate::cpu::zeros(storage, 0));
        for range in pieces {
            let part = part(batch, range);
            let piece = self.run_piece(&config, progress, &part, outputs).await?;
            total.add(&piece.summary);
            rows.extend(piece.rows);
            if let (Some(all), Some(own)) = (&mut gradient, piece.gradient) {
                append(all, own);
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
        Ok(Distillation {
            summary: data.items::<Summary>(&summary)?[0],
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

/// Pieces of `rows` rows with at most so many bytes each, to be uploaded one after the other. Usually one.
pub(super) fn pieces(rows: usize, bytes_per_row: usize, most: u64) -> Vec<Range<usize>> {
    let per_piece = usize::try_from(most / bytes_per_row.max(64) as u64).unwrap_or(usize::MAX);
    let per_piece = per_piece.max(1);
    if rows <= per_piece {
        return std::iter::once(0..rows).collect();
    }
    let starts = (0..rows).step_by(per_piece);
    starts.map(|s| s..rows.min(s + per_piece)).collect()
}

pub(super) fn batch_pieces(batch: &Batch<'_>, most: u64) -> Vec<Range<usize>> {
    let row = |l: &Logits<'_>| l.row_stride * l.values.storage().bytes();
    let widest = row(&batch.student_logits).max(row(&batch.teacher_logits));
    pieces(batch.rows(), widest.max(4 * batch.classes()), most)
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

fn append(all: &mut Gradient, piece: Gradient) {
    match (all, piece) {
        (Gradient::F32(all), Gradient::F32(piece)) => all.extend(piece),
        (Gradient::F16(all), Gradient::F16(piece)) => all.extend(piece),
        (Gradient::Bf16(all), Gradient::Bf16(piece)) => all.extend(piece),
        _ => unreachable!("every piece has the storage that was asked for"),
    }
}
