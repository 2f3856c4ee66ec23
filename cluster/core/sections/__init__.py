"""The sections of the configuration, a file for each folder that owns them. No logic."""
