//! The default model: a table of word-piece vectors, compiled in.

use std::collections::HashMap;

use async_trait::async_trait;
use model2vec_rs::model::StaticModel;
use serde::Deserialize;

use super::{EmbedError, Embedder};

/// Batches up to this size are embedded on the caller's thread, because handing them to another one
/// costs more than the few microseconds a text takes.
const INLINE_TEXTS: usize = 8;

/// The name of the vector space. Change it whenever the weights change.
const MODEL: &str = "minilm-static-256";

const TOKENIZER: &[u8] = include_bytes!("../../assets/minilm-static-256/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../assets/minilm-static-256/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../../assets/minilm-static-256/config.json");

/// The model that is compiled into the program: 256 dimensions, English above all, no network.
///
/// Cloning shares the weights.
#[derive(Clone)]
pub struct StaticEmbedder {
    model: StaticModel,
}

impl std::fmt::Debug for StaticEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticEmbedder").field("model", &MODEL).finish()
    }
}

impl StaticEmbedder {
    /// Reads the compiled-in weights, which takes about 30 ms.
    ///
    /// # Panics
    /// Never in a program whose tests ran: the weights are part of it.
    #[must_use]
    pub fn new() -> Self {
        let model = StaticModel::from_bytes(TOKENIZER, WEIGHTS, CONFIG, None)
            .expect("the compiled-in model is whole, which a test proves");
        Self { model }
    }

    /// The English words that are one piece to the model, the commonest first: a vocabulary to make texts of.
    ///
    /// # Panics
    /// Never in a program whose tests ran.
    #[must_use]
    pub fn words() -> Vec<String> {
        #[derive(Deserialize)]
        struct Tokenizer {
            model: Pieces,
        }
        #[derive(Deserialize)]
        struct Pieces {
            vocab: HashMap<String, u32>,
        }
        let tokenizer: Tokenizer = serde_json::from_slice(TOKENIZER).expect("the compiled-in tokenizer is JSON");
        // Pieces are numbered by how common they are.
        let is_word = |piece: &str| piece.len() > 1 && piece.bytes().all(|byte| byte.is_ascii_lowercase());
        let mut words: Vec<_> = tokenizer.model.vocab.into_iter().filter(|(piece, _)| is_word(piece)).collect();
        words.sort_unstable_by_key(|(_, number)| *number);
        words.into_iter().map(|(word, _)| word).collect()
    }
}

impl Default for StaticEmbedder {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Embedder for StaticEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.len() <= INLINE_TEXTS {
            return Ok(texts.iter().map(|text| self.model.encode_single(text)).collect());
        }
        let (model, texts) = (self.model.clone(), texts.to_vec());
        tokio::task::spawn_blocking(move || model.encode(&texts)).await.map_err(|_| EmbedError::Interrupted)
    }

    fn dimensions(&self) -> usize {
        self.model.dim()
    }

    fn model(&self) -> &str {
        MODEL
    }
}
