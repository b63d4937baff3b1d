"""The layouts of decoders by name."""

from lm.models.decoder import Decoder, DecoderConfig
from lm.models.gpt2.model import GPT2
from lm.models.llama.model import Llama


def build_model(config: DecoderConfig) -> Decoder:
    """A model of this shape with fresh weights, drawn from torch's generator."""
    return Llama(config) if config.architecture == "llama" else GPT2(config)
