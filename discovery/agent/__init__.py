"""
The embedded development agent: Consul's HTTP API in one Python process, for demos and tests.

    python -m discovery.agent --port 8500
    async with Agent.serving(port=0) as agent: discovery.connect(agent.url)

It is one node, keeps everything in memory and has no ACLs: for development only.
"""

from discovery.agent.server import Agent

__all__ = ["Agent"]
