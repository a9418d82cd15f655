"""
Our own HTTP/2 for unary gRPC calls: frames, header fields, one connection, one address.

    Subchannel (connects, backs off, reconnects) --> Connection (pure: bytes in, bytes out)
                                                       frames   RFC 9113
                                                       fields   RFC 7541, gRPC's own headers
                                                       message  gRPC's length prefix, gzip

One loop, no thread and no task per call: what a unary call costs here is a tenth of what it costs
on grpcio.  It has no TLS and no streams; those stay with grpcio, which is also what every behaviour
here is compared with.  Only `subchannel` knows asyncio; mesh.client.http2 gives all of it the face
of a grpc.aio.Channel.
"""
