"""Learning curves: a power law fitted to results, and what more data would bring."""
