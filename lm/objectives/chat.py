"""Conversations: the assistant's turns are predicted, all others are only read.

A conversation is written in ChatML, the format of most chat models::

    <end><|im_start|>user
    What is a mill?<|im_end|>
    <|im_start|>assistant
    A place where corn is ground.<|im_end|>

Rows are those of ``lm.objectives.counted_tokens``; of an assistant's turn its content and ``<|im_end|>`` are
counted. ``TEMPLATE`` goes with the exported tokenizer, and gives the same ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm.objectives.counted_tokens import Counted, CountedRows, counted_rows
from lm.objectives.text_rows import TextEncoder

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
ADDED_TOKENS = (TURN_START, TURN_END)
ROLES = ("system", "user", "assistant")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role`` is one of ``ROLES``."""

    role: str
    content: str


def encode(
    encoder: TextEncoder,
    conversations: Sequence[Sequence[Message]],
    added: Mapping[str, int],
    max_length: int,
) -> CountedRows:
    """Return the rows of conversations; the end of longer ones is cut.

    Args:
        encoder: of the base.
        conversations: their messages, in order.
        added: ids of ``ADDED_TOKENS``.
        max_length: of a row.
    """
    newline = [token for token, _ in encoder.encode_plain("\n")]
    items = []
    for messages in conversations:
        ids, is_counted = [encoder.eos_id], [False]
        for message in messages:
            header, answers = f"{message.role}\n", message.role == "assistant"
            pieces = encoder.encode_plain(header + message.content)
            ids += [added[TURN_START], *(token for token, _ in pieces), added[TURN_END], *newline]
            of_content = [end > len(header) for _, (_, end) in pieces]
            counted = [False, *of_content, True, *(False for _ in newline)]
            is_counted += [answers and each for each in counted]
        items.append(Counted(ids, is_counted))
    return counted_rows(items, max_length)
