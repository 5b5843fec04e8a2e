"""What a part of the service costs: two services alternate under the same load."""
