"""What must survive kills, concurrency and prying eyes."""
