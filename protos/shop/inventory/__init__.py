"""The package shop.inventory of the contract."""
