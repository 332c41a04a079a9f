"""The ways to compute a band-limited convolution, and the choice between them."""
