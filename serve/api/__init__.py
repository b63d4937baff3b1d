"""The HTTP side: routes, limits, errors, metrics, as OpenAI's API has them."""
