"""What control of motion is worth; ``python -m benchmarks.control --help`` lists what is measured."""
