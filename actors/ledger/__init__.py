"""What keys stand for; what they and their tenants may use, and did use."""
