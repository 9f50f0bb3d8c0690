"""The model runtime: finds a model in a directory and answers predictions over gRPC."""
