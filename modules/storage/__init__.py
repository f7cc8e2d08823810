"""Files where they lie, on disk, at http(s) or in object stores, and tar shards of them, read member by member."""
