"""Records followed by name through the years."""
