"""Images: files, arrays, drawn ones."""
