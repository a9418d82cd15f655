"""What operators do by hand to a mesh that runs: `python -m mesh.operator`."""
