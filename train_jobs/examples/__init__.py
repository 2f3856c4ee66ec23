"""Rows of fine-tuning sets: questions, evidence, and what is right."""
