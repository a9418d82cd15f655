"""The package proxyless.audit of the contract."""
