"""Decision-based attacks: they use the predicted class only, or no output of the model at all."""
