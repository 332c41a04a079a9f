"""What is measured: noise and attack sweeps, heat maps, recovered labels."""
