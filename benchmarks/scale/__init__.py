"""Capacity on paper: machines, money and energy of a load, and a simulated day."""
