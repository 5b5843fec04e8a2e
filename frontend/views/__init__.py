"""The views of the page, one file each, and what they share."""
