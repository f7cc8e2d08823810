"""What the frozen networks give of a data set, computed once and kept in files."""
