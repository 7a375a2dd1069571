"""HTML and Markdown pages of a run, a sweep, a comparison."""
