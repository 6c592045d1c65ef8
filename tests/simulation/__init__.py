"""Days of a product's life, from one seed, against the rules: each day's end is held to the oracle (issue 3, point 3)."""
