"""A judge that shares no code with the product: facts of a world, what must become of it, and what did."""
