"""Classification, binary classification and regression."""
