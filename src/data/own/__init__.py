"""Data from outside this project: datasets of torch, data modules of Lightning, functions that return arrays."""
