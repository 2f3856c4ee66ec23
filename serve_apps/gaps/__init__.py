"""The gap map: what was asked and the documents did not answer."""
