"""What the families of word vectors share: words of a corpus, their vocabulary, files of a model."""
