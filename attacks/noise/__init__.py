"""Noise as an attack: it is drawn for each sample and does not depend on the model's prediction."""
