"""Which documents stay: quality, duplicates, evaluation sets kept out, wrong labels. Pure rules with reasons."""
