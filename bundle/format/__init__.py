"""What lies on disk: the manifest, its schema, the repository of versions, the writer."""
