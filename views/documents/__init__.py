"""Find documents in a store: by URL or id, their texts, samples of those that were dropped."""
