"""Control: acting in an environment."""
