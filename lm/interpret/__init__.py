"""What a model looks at: attributions, attention and embeddings of transformers' models."""

MAX_PARAMETERS = 200_000_000  # of a model that a report shows: attributions take minutes of a core
