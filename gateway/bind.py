"""
A request's path, query and body become the rpc's message.

The body is read first, then the query, then the path; each field is given once.  What the body
holds no query parameter repeats; what the path holds may stand elsewhere too, if it says the same.
Errors name the field as the caller wrote it and no field that the caller did not write.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory

from gateway import mask, parameter
from gateway.invalid import Invalid, shown
from gateway.jsontext import loads
from gateway.percent import PercentError, decode_form
from gateway.routes import HTTP_BODY, Route, resolve


class Binder:
    """How requests for one route become messages; made when the route is."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._input = route.rpc.input
        self._codec = route.rpc.contract.codec
        self._new: Any = message_factory.GetMessageClass(self._input)
        self._captures = [
            (capture, resolve(self._input, capture.path) or [], ".".join(capture.path))
            for capture in route.template.captures()
        ]
        self._body: Any = (
            self._input.fields_by_name[route.body] if route.body not in ("", "*") else None
        )
        # "method PATCH, body = one message field, exactly one FieldMask field in request"
        # The body's message, where the body is one message.
        held = self._input if route.body == "*" else None
        if self._body is not None and not self._body.is_repeated:
            held = self._body.message_type
        self.raw = held is not None and held.full_name == HTTP_BODY
        patches = route.http_method == "PATCH" and route.body != "*" and held is not None
        self._mask = mask.mask_field(self._input) if patches else None
        self._bound = frozenset(
            capture.path[1:] for capture, _, _ in self._captures if capture.path[0] == route.body
        )

    def bind(self, segments: list[str], query: str, body: bytes, media_type: str = "") -> Any:
        """The rpc's request message, or Invalid; a `raw` body is stored as it is, with its type."""
        message = self._new()
        value: Any = None
        if self.raw:
            holder = message if self._body is None else getattr(message, self._body.name)
            holder.content_type, holder.data = media_type, body
        elif self._route.body:
            value, message = self._read_body(body, message)
        elif body:
            raise Invalid("this method takes no body")
        if query:
            self._read_query(query, message)
        for capture, fields, name in self._captures:
            self._put_path(message, fields, name, capture.text(segments), value)
        if self._mask is not None and not message.HasField(self._mask) and isinstance(value, dict):
            resource = self._body.message_type
            getattr(message, self._mask).paths.extend(mask.infer(value, resource, self._bound))
        return message

    def path_fields(self) -> list[Any]:
        """The field that each variable of the path fills."""
        return [fields[-1] for _, fields, _ in self._captures]

    def element(self, value: Any) -> Any:
        """One message of a stream of requests, from its JSON."""
        return self._codec.read(self._input, value)

    def piece(self, data: bytes, media_type: str) -> Any:
        """One message of a stream of google.api.HttpBody."""
        return self._new(content_type=media_type, data=data)

    def no_query(self, query: str) -> None:
        """Refuse a query where messages hold everything: Invalid names its parameters."""
        if query:
            found = (pair.partition("=")[0] for pair in query.split("&") if pair)
            why = "no such parameter: the body holds all fields"
            errors = [Invalid(why, _plain(name), "UNKNOWN_PARAMETER") for name in found]
            raise Invalid.several(errors or [Invalid(why, "", "UNKNOWN_PARAMETER")])

    def _read_body(self, body: bytes, message: Any) -> tuple[Any, Any]:
        if self._body is None:
            value = loads(body) if body else {}
            if not isinstance(value, dict):
                raise Invalid(f"the body is {shown(value)} and not an object")
            return value, self._codec.read(self._input, value)
        if not body:
            raise Invalid("the body is missing")
        value = loads(body)
        if value is None:
            raise Invalid("the body is null")
        try:
            return value, self._codec.read(self._input, {self._body.json_name: value})
        except Invalid as error:
            # The body is the field itself: the caller never wrote its name.
            name = self._body.json_name
            error.field = error.field.removeprefix(name).removeprefix(".")
            raise

    def _read_query(self, query: str, message: Any) -> None:
        given: dict[tuple[str, ...], str] = {}
        errors: list[Invalid] = []
        for pair in query.split("&"):
            if not pair:
                continue
            key, _, text = pair.partition("=")
            try:
                self._put_query(message, decode_form(key), decode_form(text), given)
            except Invalid as error:
                errors.append(error)
            except PercentError as error:
                errors.append(Invalid(str(error), key))
        if errors:
            raise Invalid.several(errors)

    def _put_query(
        self, message: Any, name: str, text: str, given: dict[tuple[str, ...], str]
    ) -> None:
        if self._route.body == "*":
            raise Invalid("no such parameter: the body holds all fields", name, "UNKNOWN_PARAMETER")
        fields, key = parameter.find(self._input, name)
        if self._body is not None and fields[0].name == self._body.name:
            raise Invalid("is given in the body", name)
        path = (*(field.name for field in fields), *([] if key is None else [key]))
        if path in given and (key is not None or not fields[-1].is_repeated):
            raise Invalid("is given twice", name)
        given[path] = name
        try:
            parameter.put(message, fields, text, key)
        except Invalid as error:
            error.field = name
            raise

    def _put_path(self, message: Any, fields: list[Any], name: str, text: str, value: Any) -> None:
        apart = self._new()
        try:
            parameter.put(apart, fields, text)
        except Invalid as error:
            error.field = name
            raise
        wanted, found = parameter.get(apart, fields), parameter.get(message, fields)
        written = _spelling(value, self._inside(fields)) if value else ""
        if found is None and not (written and wanted is not None):
            try:
                parameter.put(message, fields, text)
            except Invalid as error:
                error.field = name
                raise
        elif found != wanted:
            given = fields[-1].default_value if found is None else found
            raise Invalid(f"is {shown(given)}, but {shown(text)} in the path", written or name)

    def _inside(self, fields: list[Any]) -> list[Any]:
        """The fields as the body holds them; none where it does not."""
        if self._body is None:
            return fields
        return fields[1:] if fields[0].name == self._body.name else []


def _plain(name: str) -> str:
    """The name as it is meant; as it is written where that cannot be told."""
    try:
        return decode_form(name)
    except PercentError:
        return name


def _spelling(value: Any, fields: list[Any]) -> str:
    """How the JSON body spells the path of `fields`; "" where it does not hold it."""
    words = []
    for field in fields:
        if not isinstance(value, dict):
            return ""
        word = field.json_name if field.json_name in value else field.name
        value = value.get(word)
        words.append(word)
    return ".".join(words) if value is not None else ""
