"""A loaded model: its processes, its queue, dynamic batching."""
