"""Step by step, to each: the room of the drip sequences."""
