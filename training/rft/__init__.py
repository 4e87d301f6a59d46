"""Phase two: reinforcement under curiosity, coherence and a controlled divergence."""
