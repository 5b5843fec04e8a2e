"""The service and its models on a Ray cluster, and scoring without the service."""
