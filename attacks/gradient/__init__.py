"""Gradient-based attacks: they use the model's gradients."""
