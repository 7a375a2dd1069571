"""What a person looks at after a run: pictures, cost, the summary on the terminal."""
