"""The package proxyless.events of the contract."""
