//! The progress of a training on the terminal, and the seconds of its epochs in a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use burn::train::logger::TrainingProgressLogger;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The file with a line `epoch,seconds` for each epoch.
pub const SECONDS: &str = "seconds.csv";

/// Draws a bar of the micro-batches of an epoch and writes the seconds that each epoch took.
pub struct EpochProgress {
    bar: ProgressBar,
    seconds: File,
    label: String,
    epochs: usize,
    epoch: usize,
    begun: Instant,
}

impl EpochProgress {
    pub fn new(folder: &Path, label: &str, bars: &MultiProgress) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let style = "{msg:48} {bar:30} {pos:>4}/{len} {prefix}";
        let style = ProgressStyle::with_template(style).map_err(io::Error::other)?;
        let file = folder.join(SECONDS);
        Ok(Self {
            bar: bars.add(ProgressBar::new(0).with_style(style)),
            seconds: OpenOptions::new().create(true).append(true).open(file)?,
            label: label.to_owned(),
            epochs: 0,
            epoch: 0,
            begun: Instant::now(),
        })
    }
}

impl TrainingProgressLogger for EpochProgress {
    fn start(&mut self, epochs: usize, first: usize, _: Option<usize>, _: Option<&str>) {
        (self.epochs, self.epoch) = (epochs, first);
        self.begun = Instant::now();
    }

    fn update_epoch(&mut self, epoch: usize) {
        let seconds = self.begun.elapsed().as_secs_f64();
        // Without the line the table has a smaller time; the training is not worth ending for it.
        if let Err(error) = writeln!(self.seconds, "{epoch},{seconds:.3}") {
            log::warn!("{}: {error}", self.label);
        }
        self.begun = Instant::now();
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.bar.set_length(items as u64);
        self.bar.set_position(0);
        let (label, epoch, epochs) = (&self.label, self.epoch, self.epochs);
        self.bar.set_message(format!("{label}, {epoch}/{epochs}"));
        self.bar.set_prefix(split.to_owned());
    }

    fn update_split(&mut self, items: usize) {
        self.bar.set_position(items as u64);
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn log_event_training(&mut self, _event: String) {}
}

/// The seconds of the epochs up to `epochs`. Of an epoch that was trained twice, because a run was cut off in it, the last time counts.
pub fn seconds(folder: &Path, epochs: usize) -> io::Result<Duration> {
    let text = fs::read_to_string(folder.join(SECONDS))?;
    let mut of_epochs = vec![0.0; epochs];
    for line in text.lines() {
        let fields = line.split_once(',');
        let parsed = fields.and_then(|(epoch, seconds)| {
            Some((epoch.parse::<usize>().ok()?, seconds.parse::<f64>().ok()?))
        });
        if let Some((epoch, seconds)) = parsed
            && let Some(of_epoch) = epoch.checked_sub(1).and_then(|i| of_epochs.get_mut(i))
        {
            *of_epoch = seconds;
        }
    }
    Ok(Duration::from_secs_f64(of_epochs.iter().sum()))
}
