"""Metrics: values of (prediction, target) that torchmetrics does not have."""
