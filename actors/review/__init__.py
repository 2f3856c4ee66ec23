"""What guards want looked at, and what people decided."""
