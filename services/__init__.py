"""A small shop on the mesh: each folder is a service of its own, and none imports another."""
