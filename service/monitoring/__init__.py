"""What the service shows of itself: its log, its metrics, its traces."""
