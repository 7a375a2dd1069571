"""Texts: corpora, classes, pairs, questions."""
