"""Tuning: systems with equal budgets -> trials, a ledger, a page and recipes. Stands between `cli/` and `stages/`."""
