"""The story that `scripts/demo --check` tells: every promise of the shop, tried from outside."""
