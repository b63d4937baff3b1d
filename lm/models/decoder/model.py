"""What the decoders' architectures share; shape letters as in ``lm.models.transformer``."""

from torch import Tensor

from lm.models.attention import Segments, document_segments
from lm.models.decoder.sections import DecoderConfig
from lm.models.transformer import Transformer


class Decoder(Transformer):
    """A Transformer whose positions attend to those up to their own."""

    config: DecoderConfig

    def flops_per_token(self) -> float:
        """Return ``6 N + 12 L D T``, Chowdhery et al. 2022 (arXiv:2204.02311, appendix B).

        N counts the matrices that a token is multiplied by (the blocks' and the head); attention is
        counted in full, as nanoGPT does.
        """
        c = self.config
        blocks = sum(matrix.numel() for matrix, _ in self.weight_matrices())
        matrices = blocks + c.vocab_size * c.hidden_size
        return 6.0 * matrices + 12.0 * c.num_layers * c.hidden_size * c.context_length

    def segments(self, tokens_bt: Tensor, eos: int | None) -> Segments:
        """Return the causal segments of rows; each position that holds ``eos`` starts a document."""
        return document_segments(tokens_bt, eos)
