"""What tests share: servers for a session, a fresh reference store for a test."""
