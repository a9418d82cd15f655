"""
Our own HTTP/2 for unary gRPC calls: frames, header fields, one connection, one address.

    Subchannel   one address: connects, backs off, reconnects; it and `dialing` know asyncio
      Connection   one connection: calls to bytes, bytes to the ends of calls
        sending      windows, the server's limits      incoming   bytes to whole frames
        stream       a reply, a status                 fields     headers, HPACK
        message      gRPC's length prefix              frames     RFC 9113 as bytes

One loop, no thread and no task per call: what a unary call costs here is a tenth of what it costs
on grpcio.  It has no TLS and no streams; those stay with grpcio, which is also what every behaviour
here is compared with.  mesh.client.http2 gives all of it the face of a grpc.aio.Channel.
"""
