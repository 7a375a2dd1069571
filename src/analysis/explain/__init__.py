"""Explanations of predictions: attributions and tests of them."""
