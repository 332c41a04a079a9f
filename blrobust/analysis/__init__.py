"""Stored runs as tables: accuracies, intervals, and tests between models."""
