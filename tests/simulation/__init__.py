"""Days of a product's life, from one seed: each day's end is held to the oracle (issue 3, point 3)."""
