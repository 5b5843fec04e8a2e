"""The Open Inference Protocol over gRPC, an extra: imported only where a setting asks for it."""
