"""word2vec: vectors from which the neighbors of a word can be predicted (Mikolov et al. 2013)."""
