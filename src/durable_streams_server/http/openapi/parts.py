"""The parts of an OpenAPI document: operations, parameters, headers and responses, as plain values for JSON."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .errors import COMMON, Errors, error_responses

Document = dict[str, Any]

TEXT: Final[Document] = {"type": "string"}
#: An offset that names a position in a stream.
OFFSET: Final[Document] = {"type": "string", "pattern": "^[0-9]{16,19}_[0-9]{16}$"}
TRUE: Final[Document] = {"type": "string", "const": "true"}
#: A whole number that a client and a server can represent exactly.
COUNT: Final[Document] = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}


def ref(name: str) -> Document:
    """Returns a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(where: str, name: str, schema: Document, text: str, **more: object) -> Document:
    """Returns a parameter of a request.

    Args:
        where: `path`, `query` or `header`.
        name: the name of the parameter.
        schema: the schema of its value.
        text: what it does.
        more: further fields.
    """
    required = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": text, "schema": schema, **required, **more}


def header(schema: Document, text: str, *, required: bool = False) -> Document:
    """Returns a header of a response."""
    return {"description": text, "schema": schema, "required": required}


def response(
    text: str,
    headers: Mapping[str, Document] | None = None,
    content: Mapping[str, Document] | None = None,
) -> Document:
    """Returns a response.

    Args:
        text: when the response is sent.
        headers: its headers by name.
        content: the schema of its body by media type. None for a response without a body.
    """
    found: Document = {"description": text}
    if headers:
        found["headers"] = dict(headers)
    if content is not None:
        found["content"] = {kind: {"schema": schema} for kind, schema in content.items()}
    return found


def json_response(text: str, schema: Document, media: str = "application/json") -> Document:
    """Returns a response with a JSON document."""
    return response(text, None, {media: schema})


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Attributes:
        name: a unique name.
        summary: what the operation does, in one sentence.
        access: what a client needs: a verb, `public` or `worker`.
        parameters: its parameters, without those of the path.
        body: the schema of the request body by media type, or None if there is none.
        responses: the responses that are not errors, by status.
        errors: the error codes by status, besides the common ones.
        common: the error codes that operations of this kind have in common.
    """

    name: str
    summary: str
    access: str
    parameters: tuple[Document, ...] = ()
    body: Mapping[str, Document] | None = None
    responses: Mapping[str, Document]
    errors: Errors = {}
    common: Errors = COMMON

    def document(self, tag: str, *, has_content: bool = True) -> Document:
        """Returns the operation as an OpenAPI object.

        Args:
            tag: the group of the operation.
            has_content: whether errors have a body, which responses to HEAD have not.
        """
        found: Document = {
            "operationId": self.name,
            "summary": self.summary,
            "tags": [tag],
            "x-access": self.access,
            "security": _security(self.access),
            "responses": {
                **self.responses,
                **error_responses(self.common, self.errors, has_content=has_content),
            },
        }
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.body is not None:
            content = {kind: {"schema": schema} for kind, schema in self.body.items()}
            found["requestBody"] = {"content": content}
        return found


def _security(access: str) -> list[Document]:
    """Returns the security requirements for an access. A token is optional on a server without access control."""
    if access == "public":
        return []
    return [{"worker": []}] if access == "worker" else [{}, {"bearer": []}]


def head_of(operation: Operation, name: str) -> Operation:
    """Returns the HEAD operation that goes with a GET operation: the same responses without bodies."""
    responses = {
        status: {field: value for field, value in found.items() if field != "content"}
        for status, found in operation.responses.items()
    }
    return msgspec.structs.replace(
        operation, name=name, summary=f"{operation.summary} Without a body.", responses=responses
    )


def preflight(name: str) -> Operation:
    """Returns the OPTIONS operation, which every path has."""
    allow = {"Allow": header(TEXT, "The methods of the path.", required=True)}
    return Operation(
        name=name,
        summary="Answers a preflight of a browser, without any authorisation.",
        access="public",
        responses={"204": response("The methods and headers that scripts may use.", allow)},
    )
