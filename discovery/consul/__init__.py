"""Consul as a registry: settings, JSON to model, the watcher and the registrations."""
