"""How much data a model needs: shares of the training split, fitted and extrapolated."""
