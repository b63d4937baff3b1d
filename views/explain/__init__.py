"""What a released model looks at in a text: attributions, attention, embeddings; as JSON and as a page."""
