"""Trials under faults: real processes, real sockets, plain grpcio beside the mesh."""
