"""Images with boxes around objects."""
