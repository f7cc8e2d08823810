"""Recipes: how a file of weights is made, step by step, within a time budget."""
