"""The ModernBERT architecture."""
