//! The text: subwords, windows for training and windows that are held out.

use std::error::Error;
use std::fs;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, TokenizerBuilder, TokenizerImpl,
};

/// The tokenizer: byte-pair encoding on bytes.
pub type Subwords =
    TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, ByteLevel>;

/// The token that fills a batch. It is no token of the text.
pub const PAD: u32 = 0;
/// The token before and after each paragraph.
pub const BREAK: u32 = 1;

/// Successive tokens of one paragraph: all but the last are inputs, all but the first are labels.
pub type Window = Vec<u32>;

/// A text in subwords. The tokenizer has seen the training part alone.
pub struct Corpus {
    pub subwords: Subwords,
    pub train: Vec<Window>,
    pub held_out: Vec<Window>,
    /// Number of classes, `PAD` and `BREAK` included.
    pub vocabulary: usize,
}

impl Corpus {
    /// Reads a text whose paragraphs are separated by empty lines, and holds its last tenth of paragraphs out.
    ///
    /// A window has at most `context` labels. Each token of a paragraph, and the break after it, is the label of one window.
    pub fn read(path: &Path, vocabulary: usize, context: usize) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(path)
            .map_err(|reason| format!("--text {}: {reason}", path.display()))?;
        Self::new(&text, vocabulary, context)
            .map_err(|reason| format!("--text {}: {reason}", path.display()).into())
    }

    /// As [`read`](Self::read), of a text in memory.
    pub fn new(text: &str, vocabulary: usize, context: usize) -> Result<Self, Box<dyn Error>> {
        let paragraphs = paragraphs(text);
        let (train, held_out) = paragraphs.split_at(paragraphs.len() - paragraphs.len() / 10);
        if held_out.is_empty() {
            return Err(format!("{} paragraphs are too few", paragraphs.len()).into());
        }
        let subwords = byte_pairs(train, vocabulary).map_err(|reason| reason.to_string())?;
        let windows = |paragraphs: &[String]| -> Result<Vec<Window>, Box<dyn Error>> {
            let mut windows = Vec::new();
            for paragraph in paragraphs {
                let encoding = subwords.encode_fast(paragraph.as_str(), false);
                let encoding = encoding.map_err(|reason| reason.to_string())?;
                let tokens = [&[BREAK], encoding.get_ids(), &[BREAK]].concat();
                windows.extend(cut(&tokens, context));
            }
            Ok(windows)
        };
        Ok(Self {
            train: windows(train)?,
            held_out: windows(held_out)?,
            vocabulary: subwords.get_vocab_size(true),
            subwords,
        })
    }
}

/// The number of labels in windows.
pub fn labels(windows: &[Window]) -> usize {
    windows.iter().map(|window| window.len() - 1).sum()
}

/// The paragraphs of a text, each on one line.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines().map(str::trim) {
        let last = paragraphs.last_mut().expect("never empty");
        if line.is_empty() {
            paragraphs.push(String::new());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(line);
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

/// Cuts a paragraph into windows of at most `context` labels. A window begins with the last token of the one before.
fn cut(tokens: &[u32], context: usize) -> impl Iterator<Item = Window> {
    let starts = (0..tokens.len() - 1).step_by(context);
    starts.map(move |start| tokens[start..tokens.len().min(start + context + 1)].to_vec())
}

/// Trains byte-pair encoding on bytes, as GPT-2 has it, so that every text has tokens.
fn byte_pairs(paragraphs: &[String], vocabulary: usize) -> tokenizers::Result<Subwords> {
    let bytes = ByteLevel::default();
    let mut subwords: Subwords = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(bytes))
        .with_decoder(Some(bytes))
        .build()?;
    // Special tokens get the first numbers, in this order.
    let special = ["<pad>", "<break>"].map(|token| AddedToken::from(token, true));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.to_vec())
        .build();
    subwords.train(&mut trainer, paragraphs.iter())?;
    Ok(subwords)
}
