"""Ways to train a model on rows of one's own: each prepares its data, says what is minimised, and publishes."""
