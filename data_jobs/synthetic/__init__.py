"""Rows for training made from a corpus: questions with passages and answers, paraphrases."""
