"""SFSR on real photographs, and its estimates of x0; ``python -m benchmarks.sfsr --help`` lists what is measured."""
