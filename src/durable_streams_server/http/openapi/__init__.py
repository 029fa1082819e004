"""The OpenAPI 3.1 document of the server: one description of every route, method, parameter, header, status and error."""
