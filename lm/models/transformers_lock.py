"""One use of transformers at a time in a process.

It imports its classes when they are first asked for, and creates models under global settings: of two
threads at once, one fails to import, or gets a model without weights.
"""

import threading

TRANSFORMERS_LOCK = threading.Lock()
