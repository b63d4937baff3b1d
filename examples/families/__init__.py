"""What `recipes/families.yaml` reads beside the quickstart's input: word pairs with people's judgments, and analogies."""
