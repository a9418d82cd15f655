"""Events: told in the transaction that makes them true, taken in once by each who follows."""

from mesh.events.event import Event
from mesh.events.inbox import Inbox
from mesh.events.outbox import Message, Outbox

__all__ = ["Event", "Inbox", "Message", "Outbox"]
