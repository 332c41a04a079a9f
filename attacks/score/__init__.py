"""Score-based attacks: they see the logits, no gradients."""
