"""The study of learning: what the phases, their ablations and their controls come to, over several seeds."""
