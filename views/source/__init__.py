"""Where the words of a text come from: the training documents that hold them."""
