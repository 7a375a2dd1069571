"""Labbook: an experiment-tracking research harness for deep learning."""
