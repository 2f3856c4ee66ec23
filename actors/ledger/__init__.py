"""Keys, budgets, usage: who may use the service, and what was used."""
