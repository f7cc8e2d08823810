"""What MEF costs, and how good parts of it are; ``python -m benchmarks.mef --help`` lists what is measured."""
