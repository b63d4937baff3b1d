"""Books: EPUB and plain text, cut into chapters."""
