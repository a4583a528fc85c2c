"""Once, to many: broadcasts."""
