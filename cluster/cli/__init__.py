"""The top: the plinth command, one file per verb group."""
