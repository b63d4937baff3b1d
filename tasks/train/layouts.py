"""The layouts of decoders by name."""

from tasks.train.gpt2 import GPT2
from tasks.train.llama import Llama
from tasks.train.model import Decoder, Shape


def build(shape: Shape) -> Decoder:
    """A model of this shape with fresh weights, drawn from torch's generator."""
    return Llama(shape) if shape.layout == "llama" else GPT2(shape)
