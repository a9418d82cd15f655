"""
librdkafka's own mock cluster as a process: python kafka_mock.py -> its address; commands on stdin.

    topic <name>    make a topic of 8 partitions          down / up    the broker is away / is back

It is the cluster that librdkafka's tests run against, in memory: real sockets, groups, idempotence.
The wheel of confluent-kafka carries it; its own API opens it by one setting only, without commands.
Each command is answered by the error's number, 0.  It ends with its stdin.
"""

import ctypes
import sys
from pathlib import Path

import confluent_kafka

PRODUCER = 0
BROKER = 1
PARTITIONS = 8
JOIN_MILLISECONDS = 200


def main() -> None:
    wheel = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(wheel.glob("librdkafka*.so*"))))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    said = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    handle = ctypes.c_void_p(library.rd_kafka_new(PRODUCER, conf, said, ctypes.c_size_t(512)))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(handle, 1))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, JOIN_MILLISECONDS)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["topic", name]:
                made = library.rd_kafka_mock_topic_create(cluster, name.encode(), PARTITIONS, 1)
            case ["down"]:
                made = library.rd_kafka_mock_broker_set_down(cluster, BROKER)
            case ["up"]:
                made = library.rd_kafka_mock_broker_set_up(cluster, BROKER)
            case _:
                made = -1
        print(made, flush=True)


if __name__ == "__main__":
    main()
