"""MinHash signatures of shingled documents."""
