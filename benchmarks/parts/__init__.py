"""The parts of the benchmark; what a part is stands one package up."""
