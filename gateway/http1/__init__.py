"""
HTTP/1.1 for an ASGI application, in the event loop of who serves it.

    Server   accepts, bounds how many are connected, stops
      Connection   bytes to requests, answered in their order; who is slow or wrong is closed
        Cycle      one request: ASGI's receive and send
        Socket     a WebSocket after its handshake
      framing      targets and response heads, as bytes

llhttp (httptools) parses, strictly; wsproto knows WebSocket's frames.  There is no thread and no
queue between the socket and the application: a request costs a fifth of what it does on a server
that runs the network in threads of its own, and a client that leaves is known at once.
"""
