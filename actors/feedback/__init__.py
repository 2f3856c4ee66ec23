"""What people say of answers: the book of it, and the dataset that is made of it."""
