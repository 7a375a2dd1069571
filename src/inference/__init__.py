"""Use of trained runs: loading, answers, evaluation, export, serving."""
