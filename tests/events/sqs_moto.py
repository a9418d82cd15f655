"""
moto's SNS and SQS on a port, with steps that are atomic: python sqs_moto.py <port>.

moto's server runs requests on threads and its queues know no lock: a receive that looks through a
queue while another request gives messages back can hand out the second of a group before the first,
a long poll goes by what was on its way when it began, and of messages that come back together the
last one is free first.  SQS does none of that.  So every step of a queue takes a lock here, a long
poll is many short looks, and what came back is free before each.
"""

import sys
import threading
import time
from functools import wraps

from moto.server import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import SQSBackend
from werkzeug.serving import run_simple

LOOK_SECONDS = 0.02
_LOCK = threading.RLock()
_STEPS = (
    "change_message_visibility",
    "delete_message",
    "delete_message_batch",
    "send_message",
    "send_message_batch",
)


def atomic(step):
    @wraps(step)
    def locked(*arguments, **named):
        with _LOCK:
            return step(*arguments, **named)

    return locked


def looking(receive):
    @wraps(receive)
    def look(backend, name, count, wait, *rest, **named):
        ends = time.monotonic() + wait
        while True:
            with _LOCK:
                pending = backend.get_queue(name).pending_messages
                pending -= {message for message in pending if message.visible}
                found = receive(backend, name, count, 0, *rest, **named)
            if found or time.monotonic() >= ends:
                return found
            time.sleep(LOOK_SECONDS)

    return look


def main(port: int) -> None:
    for name in _STEPS:
        setattr(SQSBackend, name, atomic(getattr(SQSBackend, name)))
    SQSBackend.receive_message = looking(SQSBackend.receive_message)
    run_simple("127.0.0.1", port, DomainDispatcherApplication(create_backend_app), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
