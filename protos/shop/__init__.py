"""The package shop of the contract."""
