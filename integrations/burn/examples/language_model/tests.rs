//! The example learns, resumes, and accumulates micro-batches to the batch they are parts of.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::Device;
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::batches::{BatchSizes, TextBatch, TextLoader};
use crate::curves::Course;
use crate::network::{LanguageModel, LanguageModelConfig};
use crate::students::Method;
use crate::text::{BREAK, Corpus, Window, labels};
use crate::training::{Run, Schedule, Workplace};

const CONTEXT: usize = 32;

fn corpus() -> Corpus {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/language_model/persuasion.txt"
    );
    Corpus::read(Path::new(path), 512, CONTEXT).expect("the text is there")
}

/// A folder that is removed with this.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("language-model-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Texts {
    device: Device,
    train: Arc<Vec<Window>>,
    held_out: Arc<Vec<Window>>,
    bars: MultiProgress,
    vocabulary: usize,
}

impl Texts {
    /// The corpus with `held_out` windows of the held-out text.
    fn new(held_out: usize) -> Self {
        let corpus = corpus();
        Self {
            device: Device::flex(),
            train: Arc::new(corpus.train),
            held_out: Arc::new(corpus.held_out.into_iter().take(held_out).collect()),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            vocabulary: corpus.vocabulary,
        }
    }

    fn workplace(&self) -> Workplace<'_> {
        Workplace {
            device: &self.device,
            train: &self.train,
            held_out: &self.held_out,
            bars: &self.bars,
        }
    }

    fn network(&self, hidden: usize) -> LanguageModel {
        LanguageModelConfig::new(hidden, 1, 2, 0.0, self.vocabulary, CONTEXT)
            .init(&self.device.clone().autodiff())
    }
}

fn schedule(micro_batch: usize, accumulation: usize, steps: usize, epochs: usize) -> Schedule {
    Schedule {
        sizes: BatchSizes {
            micro_batch,
            accumulation,
            steps_per_epoch: steps / epochs,
        },
        epochs,
        learning_rate: 5e-3,
        seed: 3,
    }
}

fn run<'a>(place: &'a Workplace<'a>, folder: &Folder, schedule: Schedule) -> Run<'a> {
    Run {
        workplace: place,
        schedule,
        folder: folder.0.clone(),
        label: "test".to_owned(),
    }
}

/// Cross-entropy of held-out labels with the frequencies of the training labels, each counted once more, in nats.
fn of_frequencies(texts: &Texts) -> f64 {
    let mut counts = vec![1.0; texts.vocabulary];
    for label in texts.train.iter().flat_map(|window| &window[1..]) {
        counts[*label as usize] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    let held_out = texts.held_out.iter().flat_map(|window| &window[1..]);
    let nats = held_out.map(|label| (total / counts[*label as usize]).ln());
    nats.sum::<f64>() / labels(&texts.held_out) as f64
}

#[test]
fn windows_have_each_token_once_and_give_the_text_back() {
    let corpus = corpus();
    assert_eq!(corpus.vocabulary, 512);
    let windows = &corpus.held_out;
    assert!(windows.iter().all(|w| (2..=CONTEXT + 1).contains(&w.len())));
    let tokens: Vec<u32> = windows.iter().flat_map(|w| &w[1..]).copied().collect();
    let paragraphs = tokens.split(|token| *token == BREAK);
    let texts = paragraphs.map(|p| corpus.subwords.decode(p, true).expect("it decodes"));
    let texts: Vec<String> = texts.map(|text| text.trim().to_owned()).collect();
    let text = texts.join(" ");
    let novel = include_str!("persuasion.txt");
    let words: Vec<&str> = novel.split_whitespace().collect();
    let own: Vec<&str> = text.split_whitespace().collect();
    assert!(own.len() > 7000, "{} words", own.len());
    assert_eq!(own, words[words.len() - own.len()..]);
    // Training and held-out text do not overlap.
    let first = corpus.train.iter().flat_map(|w| &w[1..]).copied();
    let first = first.collect::<Vec<_>>();
    let first = corpus.subwords.decode(&first, true).expect("it decodes");
    assert!(!first.contains("Finis"));
    assert!(first.contains("Baronetage"));
}

#[test]
fn a_tokenizer_of_the_same_text_is_the_same() {
    assert_eq!(corpus().train, corpus().train);
}

fn batches(loader: &TextLoader) -> Vec<TextBatch> {
    loader.iter().map(|batch| batch.expect("a batch")).collect()
}

fn numbers(batch: &TextBatch) -> Vec<i32> {
    let labels = batch.labels.clone().into_data();
    labels.iter::<i32>().collect()
}

#[test]
fn denominators_are_the_labels_of_a_step() {
    let texts = Texts::new(1);
    let sizes = schedule(8, 3, 4, 1).sizes;
    let loader = TextLoader::shuffled(&texts.train, sizes, 5, 0, &texts.device);
    let all = batches(&loader);
    assert_eq!(all.len(), 12);
    for step in all.chunks(3) {
        let labelled: usize = step.iter().map(|batch| batch.labelled).sum();
        for batch in step {
            assert_eq!(batch.denominator, labelled);
            let kept = batch.mask_pad.clone().bool_not().int().sum();
            assert_eq!(kept.into_scalar::<i64>(), batch.labelled as i64);
            let labels = numbers(batch).into_iter().filter(|label| *label != 0);
            assert_eq!(labels.count(), batch.labelled);
        }
    }
    assert!(
        all.iter().any(|batch| numbers(batch).contains(&0)),
        "padding"
    );
}

#[test]
fn a_pass_has_every_window_and_a_resumed_loader_goes_on() {
    let texts = Texts::new(1);
    let windows: Arc<Vec<Window>> = Arc::new((2..42).map(|i| vec![1, i, 1]).collect());
    let sizes = schedule(4, 2, 5, 1).sizes;
    let loader = |epoch| TextLoader::shuffled(&windows, sizes, 5, epoch, &texts.device);
    let whole = loader(0);
    let first: Vec<Vec<i32>> = batches(&whole).iter().map(numbers).collect();
    let second: Vec<Vec<i32>> = batches(&whole).iter().map(numbers).collect();
    let seen: HashSet<i32> = first.iter().flatten().copied().collect();
    // Forty windows and the break.
    assert_eq!(seen.len(), 41);
    assert_ne!(first, second);
    let resumed: Vec<Vec<i32>> = batches(&loader(1)).iter().map(numbers).collect();
    assert_eq!(second, resumed);
}

/// An untrained model has ln 512 = 6.24 nats a token or more, one that knows the frequencies alone about 5.2.
#[test]
fn students_learn_more_than_frequencies() {
    let texts = Texts::new(60);
    let place = texts.workplace();
    let frequencies = of_frequencies(&texts);
    assert!((5.0..6.0).contains(&frequencies), "{frequencies}");
    let folder = Folder::new("teacher");
    let teacher = run(&place, &folder, schedule(8, 2, 300, 2));
    let teacher_model = teacher.on_labels(texts.network(64)).expect("it trains");
    let course = Course::read(&teacher.folder, &teacher.schedule).expect("its files");
    assert!(
        course.held_out() < frequencies - 0.2,
        "{}",
        course.held_out()
    );
    for method in Method::ALL {
        let Some(loss) = method.loss(2.0) else {
            continue;
        };
        let folder = Folder::new(&method.name());
        let student = run(&place, &folder, schedule(8, 2, 300, 2));
        let network = texts.network(32);
        let trained = student.distilled(network, &teacher_model, &loss);
        trained.unwrap_or_else(|error| panic!("{}: {error}", method.name()));
        let course = Course::read(&student.folder, &student.schedule).expect("its files");
        let nats = course.held_out();
        assert!(nats < frequencies - 0.1, "{}: {nats}", method.name());
        let last = course.points[1];
        assert!(last.agreement.is_some_and(|share| share > 0.1));
        // A mix has the share of the label that its configuration fixes or selects.
        let share = match method {
            Method::Hinton => 0.5..=0.5,
            Method::ReverseKl => 0.0..=0.0,
            _ => 0.3..=0.9,
        };
        assert!(
            last.tssr.is_some_and(|tssr| share.contains(&tssr)),
            "{:?}",
            last.tssr
        );
    }
}

#[test]
fn micro_batches_train_as_their_batch_does() {
    let texts = Texts::new(40);
    let place = texts.workplace();
    let network = texts.network(32);
    let teacher = texts.network(48).valid();
    let loss = Method::Selected.loss(2.0).expect("a loss");
    let mut held_out = Vec::new();
    for (micro_batch, accumulation) in [(12, 1), (4, 3)] {
        let folder = Folder::new(&format!("accumulation-{accumulation}"));
        let schedule = schedule(micro_batch, accumulation, 24, 2);
        let on_labels = run(&place, &folder, schedule.clone());
        on_labels.on_labels(network.clone()).expect("it trains");
        let course = Course::read(&folder.0, &schedule).expect("its files");
        let folder = Folder::new(&format!("accumulation-distilled-{accumulation}"));
        let distilled = run(&place, &folder, schedule.clone());
        let trained = distilled.distilled(network.clone(), &teacher, &loss);
        trained.expect("it trains");
        let with_teacher = Course::read(&folder.0, &schedule).expect("its files");
        held_out.push([course.held_out(), with_teacher.held_out()]);
    }
    for (whole, parts) in held_out[0].iter().zip(&held_out[1]) {
        assert!((whole - parts).abs() < 2e-4, "{held_out:?}");
    }
}

/// A training whose last epoch is lost goes on from the checkpoint before it, to the same end.
#[test]
fn a_resumed_training_ends_as_one_without_a_break() {
    let texts = Texts::new(40);
    let place = texts.workplace();
    let folder = Folder::new("resumed");
    let loss = Method::Selected.loss(2.0).expect("a loss");
    let teacher = texts.network(48).valid();
    let whole = run(&place, &folder, schedule(8, 2, 30, 3));
    whole
        .distilled(texts.network(32), &teacher, &loss)
        .expect("it trains");
    let before = Course::read(&folder.0, &whole.schedule).expect("its files");
    for part in ["model", "optim", "scheduler"] {
        let file = folder.0.join(format!("checkpoint/{part}-3.bpk"));
        fs::remove_file(file).expect("the last checkpoint");
    }
    for split in ["train", "valid"] {
        fs::remove_dir_all(folder.0.join(split).join("epoch-3")).expect("the last metrics");
    }
    // Other initial weights, which the checkpoint replaces.
    whole
        .distilled(texts.network(32), &teacher, &loss)
        .expect("it resumes");
    let after = Course::read(&folder.0, &whole.schedule).expect("its files");
    let (before, after) = (before.points[2], after.points[2]);
    assert!((before.held_out - after.held_out).abs() < 1e-5);
    let tssr = |point: crate::curves::Point| point.tssr.expect("a teacher");
    assert!((tssr(before) - tssr(after)).abs() < 1e-5);
    // A finished training has nothing left to do, and its model is that of the last checkpoint.
    let again = whole.distilled(texts.network(32), &teacher, &loss);
    again.expect("it is read");
    let unchanged = Course::read(&folder.0, &whole.schedule).expect("its files");
    assert_eq!(unchanged.points[2].held_out, after.held_out);
}
