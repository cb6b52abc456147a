//! The losses of `losses.py` in the operations of Burn, on its CPU backend flex, and of candle on the CPU: from logits to the mean loss and
//! the student's gradient by the library's autodiff, as a user of that library writes them.
//!
//! `rust-peers burn | candle` answers requests on standard input as `benches/serve.rs` does. A request with `"gradient_to": PATH` also has
//! the gradient written there, as f32 in the machine's byte order.

mod by_burn;
mod by_candle;
#[path = "../../../work/inputs.rs"]
mod inputs;

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The share of the training time gone, in the method.
const TSTR: f32 = 0.5;

#[derive(Clone, Copy, Debug)]
enum Loss {
    Method,
    ForwardKl,
    ReverseKl,
    Jsd { beta: f32 },
    TotalVariation,
}

impl Loss {
    /// The loss with this name in the crate's text form.
    fn parse(text: &str) -> Option<Self> {
        let (name, beta) = text.split_once(':').unwrap_or((text, "0.5"));
        match name {
            "method" => Some(Self::Method),
            "forward-kl" => Some(Self::ForwardKl),
            "reverse-kl" => Some(Self::ReverseKl),
            "jsd" => beta.parse().ok().map(|beta| Self::Jsd { beta }),
            "total-variation" => Some(Self::TotalVariation),
            _ => None,
        }
    }
}

/// The inputs of a problem.
#[derive(Deserialize, PartialEq, Clone)]
struct Inputs {
    rows: usize,
    classes: usize,
    storage: String,
    seed: u64,
}

impl Inputs {
    /// The logits of stream 0 (student) or 1 (teacher).
    fn logits(&self, stream: u64) -> Vec<f32> {
        let all = 0..(self.rows * self.classes) as u64;
        all.map(|i| inputs::logit(self.seed, stream, i)).collect()
    }

    fn labels(&self) -> impl Iterator<Item = i32> + use<'_> {
        (0..self.rows as u64).map(|row| inputs::label(self.seed, row, self.classes))
    }
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    inputs: Inputs,
    loss: String,
    rounds: usize,
    gradient_to: Option<std::path::PathBuf>,
}

/// A library with a problem in its tensors.
trait Library: Sized {
    /// The library's tensor that holds the gradient.
    type Gradient;
    const NAME: &str;
    fn new(inputs: &Inputs) -> Result<Self, String>;
    /// From logits to the loss and the student's gradient.
    fn step(&self, loss: Loss) -> Result<(f32, Self::Gradient), String>;
    fn values(gradient: Self::Gradient) -> Result<Vec<f32>, String>;
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("burn") => serve::<by_burn::Flex>(),
        Some("candle") => serve::<by_candle::Candle>(),
        _ => {
            eprintln!("usage: rust-peers burn | candle");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn serve<L: Library>() {
    let mut ready = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let answer = answer::<L>(&line, &mut ready);
        let answer = answer.unwrap_or_else(|error| serde_json::json!({ "error": error }));
        println!("{answer}");
        if std::io::stdout().flush().is_err() {
            return;
        }
    }
}

fn answer<L: Library>(
    line: &str,
    ready: &mut Option<(Inputs, L)>,
) -> Result<serde_json::Value, String> {
    let request: Request = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let loss = Loss::parse(&request.loss).ok_or_else(|| format!("no loss `{}`", request.loss))?;
    if request.inputs.storage != "f32" {
        return Err("only f32 is compared".to_owned());
    }
    if ready.as_ref().is_none_or(|(of, _)| *of != request.inputs) {
        // The old tensors are dropped first, since two problems may not fit in memory together.
        *ready = None;
        *ready = Some((request.inputs.clone(), L::new(&request.inputs)?));
    }
    let (_, library) = ready.as_ref().ok_or("nothing prepared")?;
    let timed = || -> Result<(f32, L::Gradient, Duration), String> {
        let start = Instant::now();
        let (value, gradient) = library.step(loss)?;
        Ok((value, gradient, start.elapsed()))
    };
    let (mut value, mut times) = (f32::NAN, Vec::new());
    for _ in 0..request.rounds {
        let (of, _, time) = timed()?;
        value = of;
        times.push(1e3 * time.as_secs_f64());
    }
    if let Some(path) = request.gradient_to {
        let values = L::values(timed()?.1)?;
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        std::fs::write(path, bytes).map_err(|e| e.to_string())?;
    }
    Ok(serde_json::json!({
        "system": L::NAME,
        "times_ms": times,
        "loss": value,
    }))
}
