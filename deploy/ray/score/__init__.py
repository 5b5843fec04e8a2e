"""Offline scoring: a bundle over millions of images with Ray Data, into Parquet files."""
