"""Image files classified from the terminal, by a running service or by a bundle."""
