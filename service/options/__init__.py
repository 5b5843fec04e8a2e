"""The settings in groups; `service/settings.py` joins them."""
