"""Data sets, sheets and inputs made of the face world."""
