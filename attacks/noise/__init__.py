"""Noise as an attack: drawn for each sample, whatever the model predicts."""
