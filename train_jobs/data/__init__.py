"""What training reads: tokenizer, batches, which documents are held out."""
