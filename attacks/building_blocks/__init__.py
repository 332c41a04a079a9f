"""Parts that several attacks share: base classes, losses, norm balls, early stopping, parameter checks."""
