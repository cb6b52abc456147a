//! Text that a model writes.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::network::LanguageModel;
use crate::random::{Purpose, Random};
use crate::text::{BREAK, PAD, Subwords};

/// Continues a text until a paragraph ends or the model's context is full. Each token is drawn from the model's probabilities.
pub fn continue_text(
    model: &LanguageModel,
    subwords: &Subwords,
    text: &str,
    context: usize,
    seed: u64,
    device: &Device,
) -> Result<String, Box<dyn std::error::Error>> {
    let encoding = subwords.encode_fast(text, false);
    let encoding = encoding.map_err(|reason| reason.to_string())?;
    let mut tokens = [&[BREAK], encoding.get_ids()].concat();
    let mut random = Random::new(seed, Purpose::Choice);
    while tokens.len() < context {
        match next_token(model, &tokens, device, random.unit())? {
            BREAK | PAD => break,
            token => tokens.push(token),
        }
    }
    let text = subwords.decode(&tokens, true);
    Ok(text.map_err(|reason| reason.to_string())?.trim().to_owned())
}

/// The first token up to which the probabilities sum to more than `draw`, uniform in `[0, 1)`.
fn next_token(
    model: &LanguageModel,
    tokens: &[u32],
    device: &Device,
    draw: f32,
) -> Result<u32, Box<dyn std::error::Error>> {
    let count = tokens.len();
    let numbers: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    let data = TensorData::new(numbers, [1, count]);
    let inputs = Tensor::<2, Int>::from_data(data, (device, DType::I32));
    let mask_pad = Tensor::<2, Bool>::full([1, count], false, device);
    let logits = model.forward(inputs, mask_pad);
    let last = softmax(logits.slice([0..1, count - 1..count]), 2);
    let probabilities = last.try_into_data()?.convert::<f32>();
    let mut sum = 0.0;
    for (token, probability) in probabilities.iter::<f32>().enumerate() {
        sum += probability;
        if sum > draw {
            return Ok(token as u32);
        }
    }
    // The probabilities may sum to a little less than 1.
    Ok(BREAK)
}
