"""What results rest on: intervals, figures by class, checks of data, explanations, learning curves."""
