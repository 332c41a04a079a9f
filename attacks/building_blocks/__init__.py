"""What several attacks share: losses, norm balls, early stopping, first successful candidates."""
