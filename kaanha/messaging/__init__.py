"""The ledger: one row per addressee, the only road to Meta, and the loop that drives on it."""
