"""Step by step, to each: drip sequences."""
