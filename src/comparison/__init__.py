"""Comparing tracked runs: groups that differ in their seed only, statistics, and what a person looks at."""
