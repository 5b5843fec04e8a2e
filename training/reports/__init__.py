"""Reports on models: comparison, degradation, transfer; tables and plots."""
