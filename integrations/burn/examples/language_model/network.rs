//! The language model: a causal transformer of Burn's layers.

use burn::config::Config;
use burn::module::Module;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

/// Sizes of a language model.
#[derive(Config, Debug)]
pub struct LanguageModelConfig {
    /// Numbers in a hidden state.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Share of the numbers that are dropped in training.
    pub dropout: f64,
    /// Tokens that the model distinguishes.
    pub vocabulary: usize,
    /// The most tokens in a sequence.
    pub context: usize,
}

impl LanguageModelConfig {
    pub fn init(&self, device: &Device) -> LanguageModel {
        // Small, since the same matrix makes the logits.
        let embedding = |count| {
            EmbeddingConfig::new(count, self.hidden)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device)
        };
        LanguageModel {
            tokens: embedding(self.vocabulary),
            positions: embedding(self.context),
            layers: TransformerEncoderConfig::new(
                self.hidden,
                4 * self.hidden,
                self.heads,
                self.layers,
            )
            .with_dropout(self.dropout)
            .with_norm_first(true)
            .init(device),
            norm: LayerNormConfig::new(self.hidden).init(device),
        }
    }
}

/// Tokens `[batch, sequence]` to logits of the next token, `[batch, sequence, vocabulary]`.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// Also the output layer.
    tokens: Embedding,
    positions: Embedding,
    layers: TransformerEncoder,
    norm: LayerNorm,
}

impl LanguageModel {
    /// `mask_pad`, `[batch, sequence]`: true where the token is padding, which no position attends to.
    pub fn forward(&self, tokens: Tensor<2, Int>, mask_pad: Tensor<2, Bool>) -> Tensor<3> {
        let [batch, sequence] = tokens.dims();
        let device = tokens.device();
        let positions = Tensor::<1, Int>::arange(0..sequence as i64, &device).unsqueeze::<2>();
        let x = self.tokens.forward(tokens) + self.positions.forward(positions);
        let causal = generate_autoregressive_mask(batch, sequence, &device);
        let input = TransformerEncoderInput::new(x)
            .mask_attn(causal)
            .mask_pad(mask_pad);
        let x = self.norm.forward(self.layers.forward(input));
        let output = self.tokens.weight.val().transpose();
        let [hidden, vocabulary] = output.dims();
        // One product of matrices instead of one for each sequence.
        let logits = x.reshape([batch * sequence, hidden]).matmul(output);
        logits.reshape([batch, sequence, vocabulary])
    }
}
