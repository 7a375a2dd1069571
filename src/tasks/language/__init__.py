"""Language modelling: the next token, or masked ones."""
