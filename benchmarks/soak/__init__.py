"""A service under clients, good and bad, while processes are killed and versions come and go."""
