"""The layouts of decoders by name."""

from lm.models.decoder import Decoder, Shape
from lm.models.gpt2.model import GPT2
from lm.models.llama.model import Llama


def build(shape: Shape) -> Decoder:
    """A model of this shape with fresh weights, drawn from torch's generator."""
    return Llama(shape) if shape.layout == "llama" else GPT2(shape)
