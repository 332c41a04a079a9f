"""The experiments of the paper (Dziedzic et al. 2019): which models are measured, and how."""
