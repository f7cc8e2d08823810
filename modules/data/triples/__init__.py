"""Cross-identity triples: a source person, a driver who is somebody else, and the source as the driver is."""
