"""What keys and tenants may use and did use: budgets that are reserved before and settled after."""
