"""A model repository that lies elsewhere, copied into a folder that is read as any other."""
