"""Step by step, to each: the room of the drip sequences, which are not built yet."""
