"""Score-based attacks: they use the model's logits, but no gradients."""
