"""Stored runs as tables: accuracies, intervals, tests between models."""
