"""Says whether what the services keep agrees: orders, money, stock and what was told of them."""
