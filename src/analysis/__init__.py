"""Analysis of results: intervals, figures by class, checks of data, explanations, learning curves."""
