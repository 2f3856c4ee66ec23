"""How training workers find each other and share a model."""
