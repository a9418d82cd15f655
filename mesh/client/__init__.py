"""The calling side: channels that generated stubs take, over one real grpc channel an endpoint."""
